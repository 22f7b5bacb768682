//! Counting, prefetching and dropping pages in the page cache.
#![allow(unsafe_code)]

use super::files::non_empty;
use crate::sys::types::PageStore;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// Whether [`drop_cached`] can drop pages on this system.
pub(crate) const DROPS_CACHED: bool = true;

/// Asks the kernel to read a range into the page cache. This is a hint, and the call does not wait.
pub(crate) fn read_ahead(file: &File, range: Range<u64>) {
    if let Ok(Some((offset, len))) = non_empty(&range) {
        // SAFETY: `posix_fadvise` takes an open descriptor and integers, and accesses no memory of this process.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_WILLNEED) };
    }
}

/// Returns how many bytes the kernel reads around a fault in a mapping of the file. Returns the kernel's default if the
/// system does not report the device, as on btrfs, whose files are on a device of their own.
pub(crate) fn read_around(file: &File) -> u64 {
    const DEFAULT_KIB: u64 = 128;
    let Ok(metadata) = file.metadata() else { return DEFAULT_KIB << 10 };
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let reported = std::fs::read_to_string(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"));
    reported.ok().and_then(|kib| kib.trim().parse().ok()).unwrap_or(DEFAULT_KIB) << 10
}

/// Asks the kernel to drop the range's pages from the page cache. The kernel drops pages that are clean and not mapped,
/// and starts write-back of dirty pages.
pub(crate) fn drop_cached(file: &File, range: Range<u64>) -> io::Result<()> {
    let Some((offset, len)) = non_empty(&range)? else { return Ok(()) };
    let advice = libc::POSIX_FADV_DONTNEED;
    // SAFETY: `posix_fadvise` takes an open descriptor and integers. Dropping resident pages changes no bytes of the
    // file.
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

/// The result of `cachestat(2)`, in pages.
#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// The number of the system call `cachestat` (Linux 6.5). It is the same on every architecture that uses the common
/// table.
const SYS_CACHESTAT: libc::c_long = 451;

/// Counts the pages of the range that are in the page cache. The count includes pages that are still being read.
pub(crate) fn count_cached(file: &File, range: &Range<u64>) -> io::Result<u64> {
    if range.is_empty() {
        return Ok(0); // as for other system calls, a length of zero would mean "up to the end of the file"
    }
    let range = CachestatRange { offset: range.start, len: range.end - range.start };
    let mut status = Cachestat::default();
    // SAFETY: both pointers are to live structures of the layout that the kernel documents, the second one writable.
    let result =
        unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut status, 0) };
    match result {
        0 => Ok(status.cached),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns where the filesystem keeps the pages of a file. Returns `Cache` if the kernel does not report the
/// filesystem.
pub(crate) fn page_store(file: &File) -> PageStore {
    // The numbers are from the kernel's `magic.h`. libc's types for them differ between architectures.
    /// `TMPFS_MAGIC`, `RAMFS_MAGIC` and `HUGETLBFS_MAGIC`.
    const MEMORY: [i64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];
    /// `OVERLAYFS_SUPER_MAGIC` and `FUSE_SUPER_MAGIC`. overlayfs maps, reads and writes an underlying file on another
    /// filesystem. FUSE does the same in passthrough mode, and a process cannot find out whether that mode is active.
    const BELOW: [i64; 2] = [0x794c_7630, 0x6573_5546];
    let mut status = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the pointer is to memory of the size of the structure that the call fills in.
    if unsafe { libc::fstatfs(file.as_raw_fd(), status.as_mut_ptr()) } != 0 {
        return PageStore::Cache;
    }
    // SAFETY: the call succeeded, so it has filled the structure in.
    let status = unsafe { status.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
    let kind = status.f_type as i64;
    if MEMORY.contains(&kind) {
        PageStore::Memory
    } else if BELOW.contains(&kind) {
        PageStore::Below
    } else {
        PageStore::Cache
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fs;

    #[test]
    fn an_empty_range_does_not_mean_the_rest_of_the_file() {
        // On tmpfs, no page can be dropped.
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        fs::write_all_at(&file, &[7; 8 * 4096], 0).unwrap();
        file.sync_all().unwrap();
        let cached = || count_cached(&file, &(0..8 * 4096));
        let Ok(before) = cached() else {
            return println!("SKIPPED: this kernel does not count cached pages");
        };
        drop_cached(&file, 4096..4096).unwrap();
        assert_eq!((cached().unwrap(), count_cached(&file, &(4096..4096)).unwrap()), (before, 0));
        fs::write_all_at(&file, &[8; 8 * 4096], 0).unwrap();
        super::super::files::start_writeback(&file, 4096..4096).unwrap();
        assert!(before > 0 && dirty(&file) > 0, "pages that nobody has asked to write back are dirty");
    }

    fn dirty(file: &File) -> u64 {
        let (range, mut status) = (CachestatRange { offset: 0, len: 8 * 4096 }, Cachestat::default());
        // SAFETY: as in `count_cached`.
        let result =
            unsafe { libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const range, &raw mut status, 0) };
        assert_eq!(result, 0);
        status.dirty
    }
}
