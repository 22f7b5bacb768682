//! System calls that every Unix has: queries about files and processes, transfers at an offset, and changes to an
//! existing mapping.
#![allow(unsafe_code)]

use super::failure::{check, overflow};
use super::inject::{Call, through};
use super::types::{FileId, FileStatus};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Returns the options for opening any file. Opening a FIFO or a device does not block, and a terminal does not become
/// the controlling terminal of this process.
pub(crate) fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// Returns the status of an open file.
pub(crate) fn status(file: &File) -> io::Result<FileStatus> {
    file.metadata().map(|metadata| status_of(&metadata))
}

/// Returns the status of the file at a path. Follows symbolic links.
pub(crate) fn status_of_path(path: &Path) -> io::Result<FileStatus> {
    fs::metadata(path).map(|metadata| status_of(&metadata))
}

fn status_of(metadata: &Metadata) -> FileStatus {
    const STAT_BLOCK_BYTES: u64 = 512; // the unit of `st_blocks` on every filesystem
    FileStatus {
        id: FileId { device: metadata.dev(), inode: metadata.ino() },
        len: metadata.len(),
        names: metadata.nlink(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        allocated_bytes: metadata.blocks().saturating_mul(STAT_BLOCK_BYTES),
        is_regular: metadata.is_file(),
        is_directory: metadata.is_dir(),
    }
}

/// Reads at an offset with one system call. Returns 0 at the end of the file.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// Writes at an offset with one system call, possibly less than the whole buffer.
pub(crate) fn write_at(file: &File, buffer: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(buffer, offset)
}

/// Returns whether a process with this id exists and is visible to this process.
pub(crate) fn process_lives(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: the call has no preconditions. The signal zero is not delivered: the call only checks whether a signal
    // could be sent.
    let result = unsafe { libc::kill(pid, 0) };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Returns the size of a memory page in bytes, which is a power of two.
pub(crate) fn page_bytes() -> usize {
    static PAGE_BYTES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *PAGE_BYTES.get_or_init(|| {
        // SAFETY: `sysconf` only reads its argument and has no preconditions.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096)
    })
}

/// Fails with `EFBIG` if a file of this length would exceed the process's limit (`ulimit -f`). Without this check, the
/// kernel would end the process with a signal (SIGXFSZ).
pub(crate) fn check_file_size_limit(len: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live structure of the type that the call fills in.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    if result == 0 && limit.rlim_cur != libc::RLIM_INFINITY && len > limit.rlim_cur {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(())
}

/// Returns how many bytes are free for a new file on the filesystem of `file`. Returns `None` if the filesystem does
/// not report this number.
#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between systems")]
pub(crate) fn free_bytes(file: &File) -> Option<u64> {
    let mut status = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the pointer is to memory of the size of the structure that the call fills in.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), status.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the structure in.
    let status = unsafe { status.assume_init() };
    (status.f_bavail as u64).checked_mul(status.f_frsize as u64)
}

/// Makes a whole mapping of this crate read-only. It never becomes writable again.
///
/// # Safety
/// - `start..start + len` is one live mapping that this crate made, and `start` is page-aligned.
/// - No `&mut` into the mapping exists, and none will be created.
pub(crate) unsafe fn protect_read_only(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: the range is a live mapping of this crate, and no code writes through it any more (both promised by the
    // caller).
    through(Call::Map, || check(unsafe { libc::mprotect(start.cast(), len, libc::PROT_READ) }))
}

/// Removes the pages at these addresses from this process's page table. A later access maps the pages again from the
/// file.
///
/// # Safety
/// - This crate mapped the addresses, and `start` is page-aligned.
/// - No page is private: the file contains the content of every page.
pub(crate) unsafe fn discard(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: the mapping is ours, and the file contains the content of every page (both promised by the caller).
    check(unsafe { libc::madvise(start.cast(), len, libc::MADV_DONTNEED) })
}

/// Counts the resident pages of a range, with `mincore(2)` on a mapping that is made for the query. The range starts at
/// a page boundary, and does not reach beyond the end of the file.
///
/// The count can be wrong: see `residency.rs`.
pub(crate) fn count_by_mincore(file: &File, range: Range<u64>) -> io::Result<u64> {
    /// The number of pages per system call: the result vector takes 64 KiB, and the mapping 256 MiB (for pages of 4
    /// KiB).
    const PAGES_AT_ONCE: u64 = 1 << 16;
    let page = page_bytes() as u64;
    let pages = range.end.saturating_sub(range.start).div_ceil(page);
    let mut states = vec![0_u8; PAGES_AT_ONCE.min(pages) as usize];
    let (mut offset, mut cached) = (range.start, 0);
    while offset < range.end {
        let len = (range.end - offset).min(PAGES_AT_ONCE * page) as usize;
        let memory = MmapOptions::new().offset(offset).len(len).map_raw_read_only(file)?;
        cached += resident_pages_of(&memory, &mut states)?;
        offset += len as u64;
    }
    Ok(cached)
}

/// Returns whether the results of `mincore(2)` for the file are true in this process.
///
/// If the process neither owns the file nor may write it, Linux reports every page as resident. Some sandboxes always
/// report every page as resident. This function queries a page far beyond the end of the file, which cannot be
/// resident. If `mincore` reports that page as resident, the results of `mincore` are not true.
pub(crate) fn mincore_is_truthful(file: &File) -> io::Result<bool> {
    const BEYOND_EVERY_FOLIO: u64 = 1 << 30;
    let len = status(file)?.len;
    let beyond = len.checked_next_multiple_of(BEYOND_EVERY_FOLIO).ok_or_else(overflow)?;
    let beyond = beyond.checked_add(BEYOND_EVERY_FOLIO).ok_or_else(overflow)?;
    let memory = MmapOptions::new().offset(beyond).len(page_bytes()).map_raw_read_only(file)?;
    Ok(resident_pages_of(&memory, &mut [0])? == 0)
}

/// Counts the resident pages of a mapping that starts at a page boundary. `states` has one byte for each page of the
/// mapping.
fn resident_pages_of(memory: &MmapRaw, states: &mut [u8]) -> io::Result<u64> {
    let states = &mut states[..memory.len().div_ceil(page_bytes())];
    let (start, len) = (memory.as_mut_ptr().cast(), memory.len());
    // SAFETY: the range is the live mapping and starts at a page, and `states` has one byte for each of its pages.
    check(unsafe { libc::mincore(start, len, states.as_mut_ptr().cast()) })?;
    Ok(states.iter().filter(|&&state| state & 1 == 1).count() as u64)
}
