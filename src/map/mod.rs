//! [`Mapping`]: the one owner of mapped memory, of its file and of its lock. No other room maps, unmaps or registers memory.
//!
//! | file | content |
//! | --- | --- |
//! | `gate.rs` | whether a mapping is open, and the count of transfers in flight |
//! | `health.rs` | what a mapping may still do: closed, faulted, poisoned; leases; syncs that must not lose an error |
//! | `place.rs` | where rows and views lie in the file |
//! | `flush.rs` | durable writes, and write-back |
//! | `evict.rs` | dropping pages from this process and from the page cache |
//! | `hints.rs` | read-ahead hints and prefetching |
//! | `residency.rs` | counting cached pages |
//! | `private.rs` | the changed pages of copy-on-write mappings |
//! | `transfer.rs` | what a stream asks of a mapping whose file it reads or writes |
//! | `close.rs` | the end: closing by path, by the owner, and giving up the right to write |
//!
//! Each file uses only files above it in this table.
#![allow(unsafe_code)]

mod close;
mod evict;
mod flush;
mod gate;
mod health;
mod hints;
mod place;
mod private;
mod residency;
mod transfer;

pub(crate) use self::evict::Patience;
pub(crate) use self::health::Lease;
pub use self::residency::Residency;

use self::gate::Gate;
use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::file::{Locking, OnDrop, RangeLock};
use crate::registry::Registry;
use crate::sync::lock;
use crate::sys::fault::{MappedRange, Watch, watch};
use crate::sys::{self, FileId, Memory, PageCounter, Protection};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock, Mutex, RwLock};

/// Every mapping of this process.
static REGISTRY: LazyLock<Registry<Mapping>> = LazyLock::new(Registry::new);

/// Which bytes of which file to map, and how.
#[derive(Debug)]
pub(crate) struct MapRequest {
    pub(crate) file: Arc<File>,
    pub(crate) id: FileId,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Range<u64>,
    pub(crate) access: AccessMode,
    pub(crate) lock: Option<RangeLock>,
    pub(crate) on_drop: OnDrop,
    /// Whether faults are answered in every thread.
    pub(crate) guarded: bool,
    /// False for a file without a name: nobody will read its bytes again.
    pub(crate) named: bool,
}

/// Mapped bytes of a file.
///
/// Invariants:
/// 1. `memory` is `Some` exactly if `file_bytes` is not empty. It maps `file_bytes` of `file`, and stays at its address until this
///    value is dropped, whoever closes the array meanwhile: borrows of the owner's elements rely on it.
/// 2. When the file was mapped, under the lock, it was at least `file_bytes.end` bytes long.
/// 3. `lock` holds the lock on `file_bytes` until the owner of the array is dropped or closed, when no borrow of its elements is
///    alive, or until somebody promises by an `unsafe` call that no borrow will be used any more. Closing by path keeps it.
/// 4. `watch` covers all of `memory`, and is dropped before it, as it is declared before it.
#[derive(Debug)]
pub(crate) struct Mapping {
    watch: Option<Watch>,
    memory: Option<Memory>,
    file: Arc<File>,
    /// Counts the cached pages of `file`.
    page_counter: PageCounter,
    id: FileId,
    path: PathBuf,
    file_bytes: Range<u64>,
    /// How the memory is mapped. It changes once at the most, from read-write to read-only.
    access: Mutex<AccessMode>,
    lock: Mutex<Option<RangeLock>>,
    on_drop: OnDrop,
    named: bool,
    /// The page cache is the file (tmpfs): nothing can be dropped from it.
    in_memory: bool,
    /// Open or closed, and the transfers in flight.
    gate: Gate,
    /// Held while the mapping is being closed. Then, why that failed.
    close_failure: Mutex<Option<Error>>,
    /// A sync has failed: what the disk holds is unknown.
    poisoned: AtomicBool,
    /// Held for reading while a sync is in progress.
    syncs: RwLock<()>,
    /// The kernel has been told how the pages are used. Until then it reads around every fault.
    pattern_chosen: AtomicBool,
    /// The last eviction left pages in the page cache: another process probably has them mapped.
    held_elsewhere: AtomicBool,
}

impl Mapping {
    /// Maps the bytes. They must lie within the file: the caller has checked its length under the lock.
    pub(crate) fn new(request: MapRequest) -> Result<Arc<Self>> {
        let MapRequest { file, id, path, bytes, access, lock, on_drop, guarded, named } = request;
        let len = usize::try_from(bytes.end - bytes.start).ok().filter(|&len| isize::try_from(len).is_ok());
        let len = len.ok_or_else(|| {
            let found = format!("{} bytes", bytes.end - bytes.start);
            Error::new(ErrorKind::SizeOverflow, "map", "bytes that fit the address space", found)
                .at(&path)
                .or_else_try("map a part of the file")
        })?;
        let protection = match access {
            AccessMode::ReadOnly => Protection::ReadOnly,
            AccessMode::ReadWrite => Protection::ReadWrite,
            AccessMode::CopyOnWrite => Protection::CopyOnWrite,
        };
        let memory = (len > 0).then(|| Memory::map(&file, bytes.start, len, protection)).transpose();
        let memory =
            memory.map_err(|error| Error::io("map", format!("to map {len} bytes"), error).at(&path))?;
        let watch = memory.as_ref().map(|memory| {
            let range = MappedRange {
                start: memory.as_mut_ptr() as usize,
                len,
                file_offset: bytes.start,
                writable: access != AccessMode::ReadOnly,
                path: path.as_path().into(),
            };
            // SAFETY:
            // - the range was just mapped from the file with this offset and access, by us alone, and the kernel maps
            //   whole pages; the watch is dropped before the memory is (invariant 4);
            // - nobody knows of the memory yet, and nobody uses it while it is dropped.
            unsafe { watch(&range) }
        });
        if let (true, Some(watch)) = (guarded, &watch) {
            fault::install().map_err(|error| error.at(&path))?;
            watch.answer_always();
        }
        let mapping = Arc::new(Self {
            watch,
            memory,
            in_memory: sys::is_memory_filesystem(&file),
            file,
            page_counter: PageCounter::default(),
            id,
            path,
            file_bytes: bytes,
            access: Mutex::new(access),
            lock: Mutex::new(lock),
            on_drop,
            named,
            gate: Gate::open(),
            close_failure: Mutex::new(None),
            poisoned: AtomicBool::new(false),
            syncs: RwLock::new(()),
            pattern_chosen: AtomicBool::new(false),
            held_elsewhere: AtomicBool::new(false),
        });
        REGISTRY.insert(mapping.addresses(), id, &mapping);
        Ok(mapping)
    }

    /// The first data byte. Dangling, but not null, where there are none.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.memory.as_ref().map_or(std::ptr::dangling_mut(), Memory::as_mut_ptr)
    }

    /// The addresses of the data.
    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.as_mut_ptr() as usize;
        start..start + (self.file_bytes.end - self.file_bytes.start) as usize // mapped, so a usize
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Whether the file has a name. A scratch file has none: its path is the directory that it lies in.
    pub(crate) fn is_named(&self) -> bool {
        self.named
    }

    /// Which bytes of the file are mapped as data.
    pub(crate) fn file_bytes(&self) -> Range<u64> {
        self.file_bytes.clone()
    }

    pub(crate) fn access(&self) -> AccessMode {
        *lock(&self.access)
    }

    pub(crate) fn locking(&self) -> Locking {
        lock(&self.lock).as_ref().map_or(Locking::Nobody, RangeLock::locking)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Before the memory is unmapped, as the registry's invariants ask. The lock is a field: it is released after the memory.
        REGISTRY.remove(self.addresses(), self.id, self);
    }
}

/// The mapping that holds an address, open or closed.
pub(crate) fn at_address(address: usize) -> Option<Arc<Mapping>> {
    REGISTRY.at_address(address)
}

/// Every mapping whose owner is alive, open or closed.
pub(crate) fn all() -> Vec<Arc<Mapping>> {
    REGISTRY.all()
}
