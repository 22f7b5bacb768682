//! What the page cache holds of a file, and dropping it.
#![allow(unsafe_code)]

use super::files::off_len;
use crate::sys::types::PageStore;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Whether [`drop_cached`] can drop pages at all.
pub(crate) const DROPS_CACHED: bool = true;

/// Asks the kernel to read a range into the page cache, without waiting for it. A hint.
pub(crate) fn read_ahead(file: &File, range: Range<u64>) {
    if let Ok((offset, len)) = off_len(&range) {
        // SAFETY: `posix_fadvise` takes an open descriptor and integers, and touches no memory of ours.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_WILLNEED) };
    }
}

/// Asks the kernel to drop the range's pages from its cache: those that are clean and mapped nowhere go. Of those that are
/// dirty, it starts the write-back.
pub(crate) fn drop_cached(file: &File, range: Range<u64>) -> io::Result<()> {
    let (offset, len) = off_len(&range)?;
    let advice = libc::POSIX_FADV_DONTNEED;
    // SAFETY: `posix_fadvise` takes an open descriptor and integers; dropping cached pages changes no bytes of the file.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, advice) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// The arguments of `cachestat(2)`, which libc does not declare.
#[repr(C)]
struct CachestatRange {
    offset: u64,
    len: u64,
}

/// The answer of `cachestat(2)`, in pages.
#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// The number of `cachestat` (Linux 6.5), the same on every architecture that was added to the common table.
const SYS_CACHESTAT: libc::c_long = 451;

/// Counts the pages of the range in the page cache, those that are still being read among them, without a mapping.
pub(crate) fn count_cached(file: &File, range: &Range<u64>) -> io::Result<u64> {
    let range = CachestatRange { offset: range.start, len: range.end.saturating_sub(range.start) };
    if range.len == 0 {
        return Ok(0); // to the kernel, a length of zero means "to the end of the file"
    }
    let mut answer = Cachestat::default();
    // SAFETY: both pointers are to live structures of the layout that the kernel documents, the second one writable.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut answer, 0) };
    match result {
        0 => Ok(answer.cached),
        _ => Err(io::Error::last_os_error()),
    }
}

/// How the file's filesystem keeps its pages. If the kernel does not say, in a cache of its own.
pub(crate) fn page_store(file: &File) -> PageStore {
    // Numbers of the kernel's `magic.h`; libc's types for them differ between architectures.
    /// `TMPFS_MAGIC`, `RAMFS_MAGIC` and `HUGETLBFS_MAGIC`.
    const MEMORY: [i64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];
    /// `OVERLAYFS_SUPER_MAGIC`: its files are mapped, read and written as files of the layer below.
    /// `FUSE_SUPER_MAGIC`: so are its files in passthrough mode, which nobody can tell from outside.
    const BELOW: [i64; 2] = [0x794c_7630, 0x6573_5546];
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the pointer is to memory of the size of the structure that the call fills in.
    if unsafe { libc::fstatfs(file.as_raw_fd(), answer.as_mut_ptr()) } != 0 {
        return PageStore::Cache;
    }
    // SAFETY: the call succeeded, so it has filled the structure in.
    let answer = unsafe { answer.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
    let kind = answer.f_type as i64;
    if MEMORY.contains(&kind) {
        PageStore::Memory
    } else if BELOW.contains(&kind) {
        PageStore::Below
    } else {
        PageStore::Cache
    }
}
