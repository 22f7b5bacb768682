//! [`Mapping`]: owns mapped memory, the open file and the lock. Outside `sys`, no other module maps, unmaps or
//! registers memory.
//!
//! | file | content |
//! | --- | --- |
//! | `gate.rs` | whether a mapping is open, and the count of transfers in flight |
//! | `health.rs` | checks that a mapping is usable; leases; syncs |
//! | `place.rs` | where rows and views lie in the file |
//! | `flush.rs` | durable writes, and write-back |
//! | `evict.rs` | dropping pages from this process and from the page cache |
//! | `hints.rs` | read-ahead hints and prefetching |
//! | `trail.rs` `course.rs` `bands.rs` `loops.rs` | the chunks that loops have evicted, and where they will continue |
//! | `columns.rs` | eviction behind a loop over rows in Fortran order |
//! | `behind.rs` | eviction behind a loop |
//! | `residency.rs` | counting resident pages |
//! | `private.rs` | the changed pages of copy-on-write mappings |
//! | `transfer.rs` | operations for a stream that reads or writes the mapping's file |
//! | `close.rs` | closing a mapping through its path or its owner, and making a mapping read-only |
//!
//! Each file uses only files above it in this table.
#![allow(unsafe_code)]

mod bands;
mod behind;
mod close;
mod columns;
mod course;
mod evict;
mod flush;
mod gate;
mod health;
mod hints;
mod loops;
mod place;
mod private;
mod residency;
mod trail;
mod transfer;

pub(crate) use self::evict::Patience;
pub(crate) use self::health::Lease;
pub use self::residency::Residency;

use self::gate::Gate;
use self::loops::Loops;
use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::file::{FileName, Locking, OnDrop, RangeLock};
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

/// A request to map bytes of a file.
#[derive(Debug)]
pub(crate) struct MapRequest {
    pub(crate) file: Arc<File>,
    pub(crate) id: FileId,
    pub(crate) path: PathBuf,
    pub(crate) bytes: Range<u64>,
    pub(crate) access: AccessMode,
    pub(crate) lock: Option<RangeLock>,
    pub(crate) on_drop: OnDrop,
    /// Whether the fault guard handles faults in every thread.
    pub(crate) guarded: bool,
    pub(crate) name: FileName,
}

/// The mapped bytes of a file.
///
/// Invariants:
/// 1. `memory` is `Some` exactly if `file_bytes` is not empty. The memory maps `file_bytes` of `file`. It stays at its
///    address until this value is dropped, even if the array is closed meanwhile: borrows of the elements point into
///    the memory.
/// 2. When the file was mapped, under the lock, it was at least `file_bytes.end` bytes long.
/// 3. `lock` holds the lock on `file_bytes` until the owner of the array is dropped or closed, when no borrow of its
///    elements is alive. Only the `unsafe` function `unlock` can release the lock earlier: its caller promises that no
///    borrow will be used any more. `close_path` closes the mapping, but does not release the lock.
/// 4. `watch` covers all of `memory`, and is dropped before `memory`, because the field is declared first.
#[derive(Debug)]
pub(crate) struct Mapping {
    watch: Option<Watch>,
    memory: Option<Memory>,
    file: Arc<File>,
    /// The counter of resident pages of `file`.
    page_counter: PageCounter,
    id: FileId,
    path: PathBuf,
    file_bytes: Range<u64>,
    /// The access mode of the memory. It changes at most once, from read-write to read-only.
    access: Mutex<AccessMode>,
    lock: Mutex<Option<RangeLock>>,
    on_drop: OnDrop,
    /// Whether the file has a name. This changes at most once: a file with a pending name either gets its name, or is
    /// recorded as a file that never gets a name.
    name: Mutex<FileName>,
    /// Whether the file exists only in memory (tmpfs), so that no page can be dropped.
    in_memory: bool,
    /// Whether the mapping is open, and the number of transfers in flight.
    gate: Gate,
    /// The error with which closing the mapping failed, if it failed. A thread holds this mutex while it closes the
    /// mapping.
    close_failure: Mutex<Option<Error>>,
    /// Whether a sync has failed. The content of the file on the disk is then unknown.
    poisoned: AtomicBool,
    /// Each sync holds this lock for reading while the sync runs.
    syncs: RwLock<()>,
    /// Whether the caller has told the kernel how the pages will be used.
    pattern_chosen: AtomicBool,
    /// Whether the last eviction left pages in the page cache, probably because another process has mapped them.
    held_elsewhere: AtomicBool,
    /// The loops that evict rows behind them.
    loops: Loops,
}

impl Mapping {
    /// Maps the requested bytes of a file. The bytes must lie within the file: the caller has locked them, and has then
    /// checked the file's length.
    pub(crate) fn new(request: MapRequest) -> Result<Arc<Self>> {
        let MapRequest { file, id, path, bytes, access, lock, on_drop, guarded, name } = request;
        let len = usize::try_from(bytes.end - bytes.start).ok().filter(|&len| isize::try_from(len).is_ok());
        let len = len.ok_or_else(|| {
            let found = format!("{} bytes", bytes.end - bytes.start);
            Error::new(ErrorKind::SizeOverflow, "map", "bytes that fit the address space", found)
                .at(&path)
                .with_remedy("map a part of the file")
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
            // - this function has just mapped the range from the file with this offset and access. The kernel maps
            //   whole pages, and no other code maps or unmaps them. The watch is dropped before the memory (invariant
            //   4);
            // - no other code has the address of the memory yet, and no thread accesses the memory while it is dropped.
            unsafe { watch(&range) }
        });
        if let (true, Some(watch)) = (guarded, &watch) {
            fault::install().map_err(|error| error.at(&path))?;
            watch.handle_in_all_threads();
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
            name: Mutex::new(name),
            gate: Gate::open(),
            close_failure: Mutex::new(None),
            poisoned: AtomicBool::new(false),
            syncs: RwLock::new(()),
            pattern_chosen: AtomicBool::new(false),
            held_elsewhere: AtomicBool::new(false),
            loops: Loops::new(),
        });
        REGISTRY.insert(mapping.addresses(), id, &mapping);
        Ok(mapping)
    }

    /// Returns the address of the first data byte. If there are no data bytes, the pointer is dangling, but not null.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.memory.as_ref().map_or(std::ptr::dangling_mut(), Memory::as_mut_ptr)
    }

    /// Returns the addresses of the data.
    pub(crate) fn addresses(&self) -> Range<usize> {
        let start = self.as_mut_ptr() as usize;
        start..start + (self.file_bytes.end - self.file_bytes.start) as usize // the length is mapped, so it fits `usize`
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

    /// Returns whether the file has a name. A scratch file never gets one. For such a file, [`path`](Self::path) is the
    /// directory in which the file was created.
    pub(crate) fn name(&self) -> FileName {
        *lock(&self.name)
    }

    /// Sets whether a file whose name was pending has got this name, or never gets it.
    pub(crate) fn settle_name(&self, name: FileName) {
        let mut current = lock(&self.name);
        if *current == FileName::Pending {
            *current = name;
        }
    }

    /// Returns the range of the file that is mapped as data.
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

impl Mapping {
    /// Removes the mapping from the registry. The owner of the array calls this method after closing the mapping.
    /// Another thread that lists all mappings may keep the mapping alive a little longer, and in that time no search by
    /// path must find the mapping.
    pub(crate) fn unregister(&self) {
        REGISTRY.remove(self.addresses(), self.id, self);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // The entry is removed before the memory is unmapped, as the registry's invariants require. The field `lock` is
        // dropped after `memory`, so the lock is released after the memory is unmapped.
        self.unregister();
    }
}

/// Returns the mapping that contains an address, open or closed.
pub(crate) fn at_address(address: usize) -> Option<Arc<Mapping>> {
    REGISTRY.at_address(address)
}

/// Returns every mapping whose owner is alive, open or closed.
pub(crate) fn all() -> Vec<Arc<Mapping>> {
    REGISTRY.all()
}
