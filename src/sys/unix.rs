//! What every Unix has: page size, file identity, and changes to a mapping in place.
#![allow(unsafe_code)]

use super::{Call, through};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// A FIFO or a device must be refused, not waited for; a terminal must not become ours.
pub(crate) const OPEN_FLAGS: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// Which file this is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// The numbers of device and inode, as the kernel prints them in its tables.
    #[cfg_attr(any(not(target_os = "linux"), ndarray_mmap_portable), allow(dead_code))]
    pub(crate) fn in_tables(self) -> String {
        format!("{:02x}:{:02x}:{}", libc::major(self.device as _), libc::minor(self.device as _), self.inode)
    }
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

/// How many bytes a new file on the same filesystem could take; `None` if the filesystem does not say.
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
    through(Call::Map, || match unsafe { libc::mprotect(start.cast(), len, libc::PROT_READ) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    })
}

/// Puts a private mapping of the same bytes of the same file in the place of a shared one, at the same address.
///
/// Whoever still holds a borrow keeps reading the file's bytes; what they write from now on reaches no file.
///
/// # Safety
/// - `start..start + len` is one live mapping that this crate made, or a part of it, `start` page-aligned, of `file` from
///   `offset` on, and no page of it was replaced by another since.
/// - `offset` is a multiple of the page size.
pub(crate) unsafe fn remap_private(start: *mut u8, len: usize, file: &File, offset: u64) -> io::Result<()> {
    let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // Without MAP_NORESERVE the kernel refuses private mappings larger than memory: every page might be written to.
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_NORESERVE;
    through(Call::Map, || {
        // SAFETY: MAP_FIXED replaces exactly a mapping that is ours (promised by the caller), in one step of the kernel, by
        // another view of the same bytes, so a reference into it stays readable and writable at every moment.
        let mapped = unsafe { libc::mmap(start.cast(), len, protection, flags, file.as_raw_fd(), offset) };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    })
}

/// How many pages of the byte range are in the page cache, by `mincore(2)` on a mapping made for the question.
pub(crate) fn cached_pages_by_mincore(file: &File, range: std::ops::Range<u64>) -> io::Result<u64> {
    /// Pages asked for in one call: a vector of 64 KiB, a mapping of 256 MiB.
    const PAGES_AT_ONCE: u64 = 1 << 16;
    let page = page_bytes() as u64;
    let end = range.end.min(file.metadata()?.len());
    let mut answer = vec![0_u8; PAGES_AT_ONCE.min(end.saturating_sub(range.start).div_ceil(page)) as usize];
    let (mut offset, mut cached) = (range.start, 0);
    while offset < end {
        let len = (end - offset).min(PAGES_AT_ONCE * page) as usize;
        let memory = memmap2::MmapOptions::new().offset(offset).len(len).map_raw_read_only(file)?;
        // SAFETY: the range is the live mapping above, from a page's start on (`offset` is a multiple of the page size,
        // as the caller's pages are), and `answer` has a byte for each of its pages.
        let result = unsafe { libc::mincore(memory.as_mut_ptr().cast(), len, answer.as_mut_ptr().cast()) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        let pages = (len as u64).div_ceil(page) as usize;
        cached += answer[..pages].iter().filter(|&&state| state & 1 == 1).count() as u64;
        offset += len as u64;
    }
    Ok(cached)
}
