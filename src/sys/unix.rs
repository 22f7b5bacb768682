//! The calls that every Unix has: questions about files and processes, positioned transfers, and changes to a mapping in
//! place.
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

/// What all files are opened with: a FIFO or a device is refused rather than waited for, and a terminal does not become the
/// process's own.
pub(crate) fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// The status of an open file.
pub(crate) fn status(file: &File) -> io::Result<FileStatus> {
    file.metadata().map(|metadata| status_of(&metadata))
}

/// The status of the file that a path leads to, through links.
pub(crate) fn status_of_path(path: &Path) -> io::Result<FileStatus> {
    fs::metadata(path).map(|metadata| status_of(&metadata))
}

fn status_of(metadata: &Metadata) -> FileStatus {
    const STAT_BLOCK_BYTES: u64 = 512; // the unit of `st_blocks`, whatever the filesystem's own is
    FileStatus {
        id: FileId { device: metadata.dev(), inode: metadata.ino() },
        len: metadata.len(),
        allocated_bytes: metadata.blocks().saturating_mul(STAT_BLOCK_BYTES),
        is_regular: metadata.is_file(),
        is_directory: metadata.is_dir(),
    }
}

/// Reads what one call gives, from an offset on; 0 at the end of the file.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buffer, offset)
}

/// Writes what one call takes, from an offset on.
pub(crate) fn write_at(file: &File, buffer: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(buffer, offset)
}

/// Whether there is a process of this number, as far as this one can see.
pub(crate) fn process_lives(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: the signal zero is sent to nobody: the call only says whether it could be.
    let result = unsafe { libc::kill(pid, 0) };
    result == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// The size of a page of memory, in bytes: a power of two.
pub(crate) fn page_bytes() -> usize {
    static PAGE_BYTES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *PAGE_BYTES.get_or_init(|| {
        // SAFETY: `sysconf` only reads its argument and has no preconditions.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096)
    })
}

/// `EFBIG` for a file length above the process's limit (`ulimit -f`), which the kernel answers with a deadly signal.
pub(crate) fn check_file_size_limit(len: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live structure of the type that the call fills in.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) };
    if result == 0 && limit.rlim_cur != libc::RLIM_INFINITY && len > limit.rlim_cur {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    Ok(())
}

/// How many bytes a new file on the same filesystem could take. `None` if the filesystem does not say.
#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between systems")]
pub(crate) fn free_bytes(file: &File) -> Option<u64> {
    let mut answer = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the pointer is to memory of the size of the structure that the call fills in.
    if unsafe { libc::fstatvfs(file.as_raw_fd(), answer.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so it has filled the structure in.
    let answer = unsafe { answer.assume_init() };
    (answer.f_bavail as u64).checked_mul(answer.f_frsize as u64)
}

/// Takes the right to write from a whole mapping of ours, for good.
///
/// # Safety
/// - `start..start + len` is one live mapping that this crate made, `start` page-aligned.
/// - No `&mut` into it exists, and none will be made.
pub(crate) unsafe fn protect_read_only(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: the range is a live mapping of ours, and nobody writes through it any more (both promised by the caller).
    through(Call::Map, || check(unsafe { libc::mprotect(start.cast(), len, libc::PROT_READ) }))
}

/// Takes the pages at these addresses out of this process. A later access reads them from the file.
///
/// # Safety
/// - The addresses are mapped by this crate, `start` page-aligned.
/// - Nobody relies on bytes there that the file does not have: no page is private.
pub(crate) unsafe fn discard(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: the mapping is ours, and every page reads the same from the file again (both promised by the caller).
    check(unsafe { libc::madvise(start.cast(), len, libc::MADV_DONTNEED) })
}

/// Counts the pages of the range that are in the page cache, by `mincore(2)` on a mapping made for the question. The range
/// starts at a page, and ends at the end of the file at the latest.
///
/// The answer can be untrue: see `residency.rs`.
pub(crate) fn count_by_mincore(file: &File, range: Range<u64>) -> io::Result<u64> {
    /// Pages asked for in one call: a vector of 64 KiB, a mapping of 256 MiB.
    const PAGES_AT_ONCE: u64 = 1 << 16;
    let page = page_bytes() as u64;
    let pages = range.end.saturating_sub(range.start).div_ceil(page);
    let mut answer = vec![0_u8; PAGES_AT_ONCE.min(pages) as usize];
    let (mut offset, mut cached) = (range.start, 0);
    while offset < range.end {
        let len = (range.end - offset).min(PAGES_AT_ONCE * page) as usize;
        let memory = MmapOptions::new().offset(offset).len(len).map_raw_read_only(file)?;
        cached += resident_pages_of(&memory, &mut answer)?;
        offset += len as u64;
    }
    Ok(cached)
}

/// Whether `mincore(2)` tells this process the truth about the file.
///
/// Linux says of every page that it is resident if the process neither owns the file nor may write it, and some sandboxes
/// say so always. A page far beyond the end of the file is in no cache: who claims that it is does not look.
pub(crate) fn mincore_is_truthful(file: &File) -> io::Result<bool> {
    const BEYOND_EVERY_FOLIO: u64 = 1 << 30;
    let len = status(file)?.len;
    let beyond = len.checked_next_multiple_of(BEYOND_EVERY_FOLIO).ok_or_else(overflow)?;
    let beyond = beyond.checked_add(BEYOND_EVERY_FOLIO).ok_or_else(overflow)?;
    let memory = MmapOptions::new().offset(beyond).len(page_bytes()).map_raw_read_only(file)?;
    Ok(resident_pages_of(&memory, &mut [0])? == 0)
}

/// Counts the resident pages of a whole mapping that starts at a page. `answer` has a byte for each of its pages.
fn resident_pages_of(memory: &MmapRaw, answer: &mut [u8]) -> io::Result<u64> {
    let answer = &mut answer[..memory.len().div_ceil(page_bytes())];
    let (start, len) = (memory.as_mut_ptr().cast(), memory.len());
    // SAFETY: the range is the live mapping, from a page's start on, and `answer` has a byte for each of its pages.
    check(unsafe { libc::mincore(start, len, answer.as_mut_ptr().cast()) })?;
    Ok(answer.iter().filter(|&&state| state & 1 == 1).count() as u64)
}
