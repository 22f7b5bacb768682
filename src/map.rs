//! [`Mapping`]: the one owner of mapped memory, its file and its lock. Nothing else maps, unmaps or registers.
#![allow(unsafe_code)]

mod cache;
mod close;
mod flush;
mod lock;
mod transfer;

pub use self::cache::Residency;
pub use self::lock::Locking;
pub(crate) use self::lock::{LockPolicy, RangeLock};

use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::registry::Registry;
use crate::sys::fault::{MappedRange, Watch, watch};
use crate::sys::{self, Call, FileId, through};
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, RwLock};

/// Every mapping of this process.
static REGISTRY: LazyLock<Registry<Mapping>> = LazyLock::new(Registry::new);

/// What happens to the pages when an array is dropped or closed.
///
/// ```
/// assert_eq!(ndarray_mmap::OnDrop::default(), ndarray_mmap::OnDrop::Evict);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDrop {
    /// Flush, drop the pages from the page cache, close. The default.
    #[default]
    Evict,
    /// Flush and close; the pages stay cached for the next reader.
    KeepCached,
}

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
    /// False for a file without a name, whose bytes nobody will read again.
    pub(crate) named: bool,
}

/// Mapped bytes of a file.
///
/// Invariants:
/// 1. `memory` is `Some` exactly if `len > 0`; it maps `len` bytes of `file` from `file_offset` on, and stays where it is
///    until this value is dropped, whoever closes the array meanwhile: borrows of the owner's elements rely on it;
/// 2. the file was at least `file_offset + len` bytes long when it was mapped, under the lock;
/// 3. `state.access` is how the memory is mapped at this moment; while it is `CopyOnWrite`, the pages are private;
/// 4. no lock is given back while the mapping can still write to the file: closing makes it private first;
/// 5. `watch` is on all of `memory`, and goes before it, for it is declared before it.
#[derive(Debug)]
pub(crate) struct Mapping {
    watch: Option<Watch>,
    memory: Option<MmapRaw>,
    file: Arc<File>,
    id: FileId,
    path: PathBuf,
    file_offset: u64,
    len: usize,
    on_drop: OnDrop,
    named: bool,
    /// The page cache is the file (tmpfs): nothing can be dropped from it.
    in_memory: bool,
    closed: AtomicBool,
    /// The kernel has been told how the pages are used; until then it reads around every fault.
    pattern_chosen: AtomicBool,
    /// The last eviction has left pages in the cache.
    held_elsewhere: AtomicBool,
    /// A sync has failed: what is on disk is unknown.
    poisoned: AtomicBool,
    /// Held for reading while a sync is under way.
    syncs: RwLock<()>,
    /// Held while the mapping is being closed; then, why that failed.
    closing: Mutex<Option<Error>>,
    state: Mutex<State>,
}

/// What changes in the life of a mapping.
#[derive(Debug)]
struct State {
    access: AccessMode,
    lock: Option<RangeLock>,
}

impl Mapping {
    /// Maps the bytes. They must lie within the file: the caller has checked its length under the lock.
    pub(crate) fn new(request: MapRequest) -> Result<Arc<Self>> {
        let MapRequest { file, id, path, bytes, access, lock, on_drop, guarded, named } = request;
        let len = usize::try_from(bytes.end - bytes.start).ok().filter(|&len| isize::try_from(len).is_ok());
        let len = len.ok_or_else(|| {
            let found = format!("{} bytes", bytes.end - bytes.start);
            Error::new(ErrorKind::SizeOverflow, "map", "bytes that fit the address space", found).at(&path)
        })?;
        let memory = map(&file, bytes.start, len, access)
            .map_err(|error| Error::io("map", format!("to map {len} bytes"), error).at(&path))?;
        let watch = memory.as_ref().map(|memory| {
            let range = MappedRange {
                start: memory.as_ptr() as usize,
                len,
                file_offset: bytes.start,
                writable: access != AccessMode::ReadOnly,
                path: path.as_path().into(),
            };
            // SAFETY:
            // - the range was just mapped from the file with this offset and access, by us alone, and the kernel maps
            //   whole pages; the watch goes before the memory does (invariant 5);
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
            id,
            path,
            file_offset: bytes.start,
            len,
            on_drop,
            named,
            closed: AtomicBool::new(false),
            pattern_chosen: AtomicBool::new(false),
            held_elsewhere: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            syncs: RwLock::new(()),
            closing: Mutex::new(None),
            state: Mutex::new(State { access, lock }),
        });
        REGISTRY.insert(mapping.addresses(), id, &mapping);
        Ok(mapping)
    }

    /// The first data byte; dangling, but not null, where there is none.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.memory.as_ref().map_or(std::ptr::dangling_mut(), MmapRaw::as_mut_ptr)
    }

    /// The address of the first data byte.
    pub(crate) fn address(&self) -> usize {
        self.as_mut_ptr() as usize
    }

    /// The addresses of the data.
    fn addresses(&self) -> Range<usize> {
        let start = self.address();
        start..start + self.len
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Which bytes of the file are mapped as data.
    pub(crate) fn file_bytes(&self) -> Range<u64> {
        self.file_offset..self.file_offset + self.len as u64
    }

    fn state(&self) -> MutexGuard<'_, State> {
        crate::sync::lock(&self.state)
    }

    pub(crate) fn access(&self) -> AccessMode {
        self.state().access
    }

    pub(crate) fn locking(&self) -> Locking {
        self.state().lock.as_ref().map_or(Locking::Nobody, RangeLock::locking)
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// An error if the array was closed by path.
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if !self.is_closed() {
            return Ok(());
        }
        let (expected, found) = ("an open array", "one that was closed by its path");
        Err(Error::new(ErrorKind::Closed, operation, expected, found)
            .at(&self.path)
            .or_else_try("open the file again"))
    }

    /// An error for ever after a fault: bytes of it were lost, or made up.
    pub(crate) fn check_intact(&self, operation: &'static str) -> Result<()> {
        match self.watch.as_ref().and_then(Watch::first_fault) {
            None => Ok(()),
            Some(offset) => Err(fault::error(operation, offset).at(&self.path)),
        }
    }

    /// An error unless the file holds, and will hold, what was stored through this mapping: for whoever goes past it.
    pub(crate) fn check_usable(&self, operation: &'static str) -> Result<()> {
        self.check_open(operation)?;
        self.check_intact(operation)?;
        self.check_not_poisoned().map_err(|error| error.during(operation))
    }

    /// Takes the right to write, and lets other readers in. The caller is the array's only owner, by value, so no
    /// mutable borrow of its elements is alive.
    pub(crate) fn make_read_only(&self) -> Result<()> {
        self.flush()?;
        let mut state = self.state();
        if let Some(memory) = &self.memory {
            let (start, len) = self.mapped_pages(memory);
            // SAFETY:
            // - invariant 1: `start..start + len` is the live mapping, from its first page on;
            // - no `&mut` into it exists: the array is owned by value, and is a read-only one from here on.
            unsafe { sys::protect_read_only(start, len) }
                .map_err(|error| Error::io("into_read_only", "to protect the pages", error).at(&self.path))?;
        }
        if let Some(watch) = &self.watch {
            watch.set_read_only();
        }
        if let Some(lock) = &state.lock {
            lock.downgrade().map_err(|error| error.at(&self.path))?;
        }
        state.access = AccessMode::ReadOnly;
        Ok(())
    }

    /// Sees to it that what borrows still write reaches the file no more: their memory stays where it is, and its pages
    /// are private from here on.
    fn detach(&self, state: &mut State) -> Result<()> {
        let page = sys::page_bytes();
        if let (Some(memory), AccessMode::ReadWrite) = (&self.memory, state.access) {
            let (start, len) = self.mapped_pages(memory);
            let offset = self.file_offset - self.lead_bytes();
            let _no_fault = sys::fault::hold();
            // Pages of zeros, in the place of pages that faulted, are private already, and hold what was stored there.
            let intact = self.watch.as_ref().and_then(Watch::intact_pages);
            for pages in intact.unwrap_or_else(|| std::iter::once(0..len.div_ceil(page)).collect()) {
                let (first, end) = (pages.start * page, (pages.end * page).min(len));
                // SAFETY:
                // - invariant 1: `start..start + len` is the live mapping of this file, from its first page on, and
                //   `first..end` is a part of it, from a page's start on;
                // - `offset + first` is the file offset of that page, a multiple of the page size;
                // - no page of it is another than the file's: those that faulted are left out, and none faults meanwhile.
                unsafe {
                    sys::remap_private(
                        start.wrapping_add(first),
                        end - first,
                        &self.file,
                        offset + first as u64,
                    )
                }
                .map_err(|error| Error::io("close", "to detach the pages", error).at(&self.path))?;
            }
        }
        state.access = AccessMode::CopyOnWrite;
        Ok(())
    }

    /// How far the data starts above the first mapped page.
    fn lead_bytes(&self) -> u64 {
        self.file_offset % sys::page_bytes() as u64
    }

    /// The mapping with the part of its first page that lies before the data.
    fn mapped_pages(&self, memory: &MmapRaw) -> (*mut u8, usize) {
        let lead_bytes = self.lead_bytes() as usize; // below the page size
        (memory.as_mut_ptr().wrapping_sub(lead_bytes), self.len + lead_bytes)
    }

    /// The mapping's own part of a range of the file, as a range of `memory`.
    fn local(&self, file_range: &Range<u64>) -> Range<usize> {
        let mine = self.file_bytes();
        let start = file_range.start.clamp(mine.start, mine.end) - mine.start;
        let end = file_range.end.clamp(mine.start, mine.end) - mine.start;
        start as usize..end.max(start) as usize // both at most `len`, a usize
    }

    /// Writes the dirty pages under a part of the file to disk; durable on return.
    fn sync_mapped(&self, file_range: &Range<u64>) -> io::Result<()> {
        let local = self.local(file_range);
        match &self.memory {
            Some(memory) if !local.is_empty() => {
                through(Call::Sync, || memory.flush_range(local.start, local.len()))
            }
            _ => Ok(()),
        }
    }

    /// Gives the kernel a hint on a part of the file.
    fn advise_mapped(&self, file_range: &Range<u64>, advice: Advice) -> io::Result<()> {
        let local = self.local(file_range);
        match &self.memory {
            Some(memory) if !local.is_empty() => memory.advise_range(advice, local.start, local.len()),
            _ => Ok(()),
        }
    }

    /// Takes the pages out of this process's address space; a later access reads them back from the file.
    fn unmap_pages(&self, file_range: &Range<u64>) -> io::Result<()> {
        // The state's lock keeps `close` from making the mapping private meanwhile.
        let state = self.state();
        let _no_fault = sys::fault::hold();
        // Pages of zeros that took the place of pages that faulted are private, too: what was stored there would change
        // under those who hold borrows.
        if state.access == AccessMode::CopyOnWrite || self.check_intact("evict").is_err() {
            return Ok(());
        }
        let local = self.local(file_range);
        match &self.memory {
            Some(memory) if !local.is_empty() => {
                // SAFETY: the mapping is shared and no page of it was replaced (checked above, and kept so by the lock and
                // the hold), so the pages' contents are the file's, and references into them read the same bytes back.
                unsafe { memory.unchecked_advise_range(UncheckedAdvice::DontNeed, local.start, local.len()) }
            }
            _ => Ok(()),
        }
    }

    /// Takes a private mapping's unchanged pages, which are the file's, out of this process's address space. It cannot
    /// tell them from its changed ones, but the kernel can, once no shared mapping of ours holds them any more.
    fn release_unchanged(&self, file_range: &Range<u64>) -> io::Result<()> {
        let local = self.local(file_range);
        if self.state().access != AccessMode::CopyOnWrite || local.is_empty() {
            return Ok(());
        }
        let first = self.as_mut_ptr().wrapping_add(local.start);
        let in_page = first as usize % sys::page_bytes();
        sys::page_out(first.wrapping_sub(in_page), in_page + local.len())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Before the memory goes, as the registry's invariants say. The lock goes with the state, after the memory.
        REGISTRY.remove(self.addresses(), self.id, self);
    }
}

/// Maps `len` bytes; nothing where there are none.
fn map(file: &File, offset: u64, len: usize, access: AccessMode) -> io::Result<Option<MmapRaw>> {
    if len == 0 {
        return Ok(None);
    }
    let mut options = MmapOptions::new();
    options.offset(offset).len(len);
    through(Call::Map, || match access {
        AccessMode::ReadOnly => options.map_raw_read_only(file),
        AccessMode::ReadWrite => options.map_raw(file),
        AccessMode::CopyOnWrite => {
            // Pages are copied as they are written: swap for all of them need not be promised beforehand.
            let mut options = options.clone();
            options.no_reserve_swap();
            // SAFETY: nothing here reads or writes the memory; that the file does not change under its readers is what
            // the lock and the crate's section "Soundness" are about.
            unsafe { options.map_copy(file) }.map(MmapRaw::from)
        }
    })
    .map(Some)
}

/// The mapping that holds an address.
pub(crate) fn at_address(address: usize) -> Option<Arc<Mapping>> {
    REGISTRY.at_address(address)
}

/// Every open mapping.
pub(crate) fn all() -> Vec<Arc<Mapping>> {
    REGISTRY.all()
}
