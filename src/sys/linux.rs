//! The calls that only Linux has.
#![allow(unsafe_code)]

use super::unix::cached_pages_by_mincore;
use super::{Call, FileId, Left, LockMode, LockOutcome, through};
use memmap2::{Advice, MmapOptions};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The answer of a call that returns 0 or sets `errno`.
fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn off_t(value: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(value).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

/// Offset and length of a byte range, as the kernel counts them.
fn off_len(range: &Range<u64>) -> io::Result<(libc::off_t, libc::off_t)> {
    Ok((off_t(range.start)?, off_t(range.end.saturating_sub(range.start))?))
}

/// Takes disk space for a range of bytes, and makes the file as long as that. New bytes read as zeros.
///
/// `Unsupported` where the filesystem cannot reserve (`posix_fallocate` would write zeros, without saying so).
pub(crate) fn reserve(file: &File, range: Range<u64>) -> io::Result<()> {
    let (offset, len) = off_len(&range)?;
    // SAFETY: `fallocate` takes an open descriptor and integers, and touches no memory of ours.
    through(Call::Allocate, || check(unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, len) }))
}

/// Writes the dirty pages of the range and waits for them. Says nothing of metadata or of the disk's own cache.
pub(crate) fn sync_range(file: &File, range: Range<u64>) -> io::Result<()> {
    let (offset, len) = off_len(&range)?;
    let flags =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: `sync_file_range` takes an open descriptor and integers, and touches no memory of ours.
    through(Call::Sync, || check(unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) }))
}

/// Makes everything on the file's filesystem durable.
pub(crate) fn sync_filesystem(file: &File) -> io::Result<()> {
    // SAFETY: `syncfs` takes an open descriptor, and touches no memory of ours.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

/// Asks the kernel to drop the range's pages from its cache: those that are clean and mapped nowhere go.
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

/// How many pages of the byte range are in the page cache.
pub(crate) fn cached_pages(file: &File, range: Range<u64>) -> io::Result<u64> {
    match cachestat(file, &range) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => cached_pages_by_mincore(file, range),
        counted => counted,
    }
}

/// What is left of the range in the page cache. `cachestat` counts pages that are still on their way, `mincore` does not.
pub(crate) fn left_in_cache(file: &File, range: Range<u64>) -> io::Result<Left> {
    match cachestat(file, &range) {
        Ok(0) => Ok(Left::Nothing),
        Ok(cached) if cached_pages_by_mincore(file, range)? < cached => Ok(Left::BeingRead),
        Ok(_) => Ok(Left::Settled),
        // Nobody can tell, or nobody tells us.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => Ok(Left::Settled),
        Err(error) => Err(error),
    }
}

/// Counts them by a call that needs no mapping and looks at no page. `ENOSYS` before Linux 6.5.
fn cachestat(file: &File, range: &Range<u64>) -> io::Result<u64> {
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

/// Drops one page of the file from the cache through a mapping of its own, which splits a large folio that it is part of.
pub(crate) fn reclaim_page(file: &File, page: Range<u64>) -> io::Result<()> {
    let len = (page.end - page.start) as usize; // one page
    let memory = MmapOptions::new().offset(page.start).len(len).map_raw_read_only(file)?;
    memory.advise(Advice::Random)?; // no read-ahead for the sake of one page
    memory.advise(Advice::PopulateRead)?;
    page_out(memory.as_mut_ptr(), len)
}

/// Asks the kernel to give up the pages at these addresses: unchanged ones are dropped, changed ones swapped out if there
/// is swap. Before Linux 5.4 they stay. `start` is page-aligned.
pub(crate) fn page_out(start: *mut u8, len: usize) -> io::Result<()> {
    // SAFETY: paging out changes no bytes, whose memory it may be; addresses that are not mapped are an error.
    match check(unsafe { libc::madvise(start.cast(), len, libc::MADV_PAGEOUT) }) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        result => result,
    }
}

/// Copies memory of this process by way of the kernel: a page that cannot be had is `EFAULT`, not a signal.
pub(crate) fn copy_mapped(from: *const u8, to: &mut [u8]) -> io::Result<()> {
    let this = std::process::id() as libc::pid_t; // which it came from
    let mut done = 0;
    while done < to.len() {
        let rest = &mut to[done..];
        let len = rest.len();
        let target = libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: len };
        let source = libc::iovec { iov_base: from.wrapping_add(done).cast_mut().cast(), iov_len: len };
        let copied = through(Call::Read, || {
            // SAFETY: `target` is one vector of `len` writable bytes of `to`; of `source` the kernel checks every page.
            let copied =
                unsafe { libc::process_vm_readv(this, &raw const target, 1, &raw const source, 1, 0) };
            usize::try_from(copied).map_err(|_| io::Error::last_os_error())
        })?;
        if copied == 0 {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        done += copied;
    }
    Ok(())
}

/// For each of so many pages of a private mapping from an address on: whether it was changed, and so is no page of its file
/// any more.
pub(crate) fn changed_pages(start: usize, count: usize) -> io::Result<Vec<bool>> {
    // Bits of `/proc/PID/pagemap`.
    const OF_FILE: u64 = 1 << 61;
    const SWAPPED: u64 = 1 << 62;
    const PRESENT: u64 = 1 << 63;
    let table = through(Call::Open, || File::open("/proc/self/pagemap"))?; // of this process, also after a fork
    let mut entries = vec![0; count * size_of::<u64>()];
    let first = (start / super::page_bytes() * size_of::<u64>()) as u64;
    super::fs::read_exact_at(&table, &mut entries, first)?;
    let entry = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap_or_default());
    let is_changed = |entry: u64| entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0;
    Ok(entries.chunks_exact(size_of::<u64>()).map(|bytes| is_changed(entry(bytes))).collect())
}

/// Whether the file lives in memory (tmpfs, ramfs, hugetlbfs), where the page cache *is* the file.
pub(crate) fn is_memory_filesystem(file: &File) -> bool {
    /// `TMPFS_MAGIC`, `RAMFS_MAGIC` and `HUGETLBFS_MAGIC` of the kernel's `magic.h`; libc's types for them differ.
    const MEMORY: [i64; 3] = [0x0102_1994, 0x8584_58f6, 0x9584_58f6];
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the pointer is to memory of the size of the structure that the call fills in.
    if unsafe { libc::fstatfs(file.as_raw_fd(), answer.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded, so it has filled the structure in.
    let answer = unsafe { answer.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the field's type differs between architectures")]
    MEMORY.contains(&(answer.f_type as i64))
}

/// Creates a file on the directory's filesystem that has no name and never gets one. `Unsupported` where the filesystem has no
/// unnamed files.
pub(crate) fn create_unnamed(directory: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE | libc::O_EXCL);
    through(Call::Open, || options.open(directory)).map_err(|error| match error.raw_os_error() {
        // Kernels that do not know the flag see an attempt to write to a directory.
        Some(libc::EISDIR) => io::ErrorKind::Unsupported.into(),
        _ => error,
    })
}

/// Renames, unless the new name is taken, in one step.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    let text = |path: &Path| std::ffi::CString::new(path.as_os_str().as_bytes());
    let (from, to) = (text(from)?, text(to)?);
    let (cwd, flag) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
    // SAFETY: both strings end in NUL and live through the call.
    through(Call::Publish, || check(unsafe { libc::renameat2(cwd, from.as_ptr(), cwd, to.as_ptr(), flag) }))
}

/// An open-file-description lock request on a byte range.
fn flock(range: &Range<u64>, kind: libc::c_int) -> io::Result<libc::flock> {
    let (start, len) = off_len(range)?;
    // SAFETY: `flock` is plain integers, for which zero is a value; OFD locks require `l_pid` to be zero.
    let mut request: libc::flock = unsafe { std::mem::zeroed() };
    request.l_type = kind as libc::c_short;
    request.l_whence = libc::SEEK_SET as libc::c_short;
    request.l_start = start;
    request.l_len = len;
    Ok(request)
}

fn lock_kind(mode: LockMode) -> libc::c_int {
    match mode {
        LockMode::Shared => libc::F_RDLCK,
        LockMode::Exclusive => libc::F_WRLCK,
    }
}

fn fcntl_lock(fd: RawFd, command: libc::c_int, request: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the pointer is to a live, initialised structure of the type that both lock commands take.
    through(Call::Lock, || check(unsafe { libc::fcntl(fd, command, &raw mut *request) }))
}

/// Takes, or changes, this open file's lock on the range, without waiting.
pub(crate) fn lock_range(file: &File, range: Range<u64>, mode: LockMode) -> io::Result<LockOutcome> {
    let mut request = flock(&range, lock_kind(mode))?;
    match fcntl_lock(file.as_raw_fd(), libc::F_OFD_SETLK, &mut request) {
        Ok(()) => Ok(LockOutcome::Taken),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(LockOutcome::Conflict),
            Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) => {
                Ok(LockOutcome::Unsupported)
            }
            _ => Err(error),
        },
    }
}

/// Gives up this open file's lock on the range.
pub(crate) fn unlock_range(file: &File, range: Range<u64>) -> io::Result<()> {
    let mut request = flock(&range, libc::F_UNLCK)?;
    fcntl_lock(file.as_raw_fd(), libc::F_OFD_SETLK, &mut request)
}

/// Which process holds a lock that conflicts, as far as this process may see it.
pub(crate) fn lock_holder(file: &File, id: FileId, range: Range<u64>, mode: LockMode) -> Option<u32> {
    let mut request = flock(&range, lock_kind(mode)).ok()?;
    fcntl_lock(file.as_raw_fd(), libc::F_OFD_GETLK, &mut request).ok()?;
    match u32::try_from(request.l_pid) {
        Ok(0) => None,
        Ok(pid) => Some(pid),
        // An open-file-description lock has no process (-1): find the one that has this file open with this lock.
        Err(_) => {
            let place = lock_place(id, &request);
            fs::read_dir("/proc")
                .ok()?
                .flatten()
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .find(|&pid| pid != std::process::id() && holds_lock_at(pid, &place))
        }
    }
}

/// How `/proc/PID/fdinfo/FD` ends its line on a lock: device and inode, the first and the last byte.
fn lock_place(id: FileId, lock: &libc::flock) -> String {
    let last = match lock.l_len {
        0 => "EOF".to_owned(),
        len => (lock.l_start + len - 1).to_string(),
    };
    format!(" {} {} {last}", id.in_tables(), lock.l_start)
}

/// Whether one of the process's descriptors holds a lock at this place.
fn holds_lock_at(pid: u32, place: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .any(|info| info.lines().any(|line| line.starts_with("lock:") && line.ends_with(place)))
}
