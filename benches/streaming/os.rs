//! System calls of Linux that the benchmark needs, as functions with safe signatures.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

use memmap2::{Advice, MmapMut, MmapOptions};

pub const PAGE_BYTES: u64 = 4096;
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The result of `cachestat(2)`, in pages.
#[repr(C)]
#[derive(Default)]
struct CacheStat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

fn check(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns how many bytes of the file are in the page cache.
pub fn cached_bytes(file: &File) -> io::Result<u64> {
    match cachestat(file.as_raw_fd()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => mincore_bytes(file),
        counted => counted,
    }
}

fn cachestat(fd: RawFd) -> io::Result<u64> {
    const SYS_CACHESTAT: libc::c_long = 451;
    let whole_file = [0_u64, 0];
    let mut stat = CacheStat::default();
    // SAFETY: both pointers outlive the call, and have the layout of `struct cachestat_range` and `struct cachestat`.
    let status = unsafe { libc::syscall(SYS_CACHESTAT, fd, whole_file.as_ptr(), &raw mut stat, 0) };
    check(status as libc::c_int)?;
    Ok(stat.cached * PAGE_BYTES)
}

fn mincore_bytes(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len() as usize;
    if length == 0 {
        return Ok(0);
    }
    let map = MmapOptions::new().len(length).map_raw_read_only(file)?;
    let mut pages = vec![0_u8; length.div_ceil(PAGE_BYTES as usize)];
    // SAFETY: the range is exactly the mapping, and `pages` has one byte for each of its pages.
    check(unsafe { libc::mincore(map.as_mut_ptr().cast(), length, pages.as_mut_ptr()) })?;
    Ok(pages.iter().filter(|&&page| page & 1 == 1).count() as u64 * PAGE_BYTES)
}

/// Asks the kernel to drop the clean, unmapped pages of the file.
pub fn drop_cached(file: &File) -> io::Result<()> {
    drop_cached_range(file, 0..0)
}

/// Asks the kernel to drop the clean, unmapped pages that lie in this range of the file. An empty range at the start
/// means the whole file.
pub fn drop_cached_range(file: &File, range: Range<u64>) -> io::Result<()> {
    let (start, length) = (range.start as libc::off_t, (range.end - range.start) as libc::off_t);
    // SAFETY: takes no pointers.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), start, length, libc::POSIX_FADV_DONTNEED) };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Reserves the blocks of the file, and sets its length.
pub fn reserve(file: &File, length_bytes: u64) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length_bytes as libc::off_t) })
}

/// Syncs the filesystem that holds this file.
pub fn sync_filesystem(file: &File) -> io::Result<()> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::syncfs(file.as_raw_fd()) })
}

/// Returns the magic number of the filesystem that holds the file.
pub fn filesystem_magic(file: &File) -> io::Result<i64> {
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: `stat` is a valid place for the result.
    check(unsafe { libc::fstatfs(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled the struct.
    Ok(unsafe { stat.assume_init() }.f_type)
}

/// Returns how many bytes an ordinary user may still write to the filesystem of this file.
pub fn free_bytes(file: &File) -> io::Result<u64> {
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `stat` is a valid place for the result.
    check(unsafe { libc::fstatvfs(file.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled the struct.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_bavail * stat.f_frsize)
}

/// The resources that this process and its finished children have used.
pub struct Usage {
    pub cpu_seconds: f64,
    /// The highest peak of resident memory among the finished children, in bytes.
    pub children_peak_rss_bytes: u64,
}

/// Returns the resources that this process and its finished children have used.
pub fn usage() -> io::Result<Usage> {
    let own = rusage(libc::RUSAGE_SELF)?;
    let children = rusage(libc::RUSAGE_CHILDREN)?;
    Ok(Usage {
        cpu_seconds: cpu_seconds(&own) + cpu_seconds(&children),
        children_peak_rss_bytes: children.ru_maxrss as u64 * 1024,
    })
}

fn rusage(who: libc::c_int) -> io::Result<libc::rusage> {
    let mut usage = MaybeUninit::uninit();
    // SAFETY: `usage` is a valid place for the result.
    check(unsafe { libc::getrusage(who, usage.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so it filled the struct.
    Ok(unsafe { usage.assume_init() })
}

fn cpu_seconds(usage: &libc::rusage) -> f64 {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Allocates at least this many bytes for direct I/O, and touches every page. Uses huge pages if the system has them.
pub fn aligned_buffer(length_bytes: usize) -> io::Result<MmapMut> {
    let mut buffer = MmapOptions::new().len(length_bytes.next_multiple_of(HUGE_PAGE_BYTES)).map_anon()?;
    // Direct I/O into huge pages is faster, and the comparison uses the fastest version of each rival. If the kernel
    // refuses huge pages, the buffer uses ordinary pages.
    let _ = buffer.advise(Advice::HugePage);
    buffer.iter_mut().step_by(PAGE_BYTES as usize).for_each(|byte| *byte = 1);
    Ok(buffer)
}

/// Blocks the signals that ask a program to stop, so that only [`wait_for_stop`] receives them. Call this function
/// before any thread is started.
pub fn hold_stop_signals() {
    let set = stop_signals();
    // SAFETY: `set` is initialised, and a null pointer means that the old set is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Waits until a signal asks the program to stop.
pub fn wait_for_stop() {
    let set = stop_signals();
    let mut signal = 0;
    // SAFETY: `set` is initialised, and `signal` is a valid place for the result.
    unsafe { libc::sigwait(&raw const set, &raw mut signal) };
}

fn stop_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` is a valid place for a signal set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the set has been initialised above, and the signal numbers exist.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: initialised by `sigemptyset`.
    unsafe { set.assume_init() }
}

/// Kills the process group that this process leads.
pub fn kill_group(leader: u32) {
    // SAFETY: takes no pointers.
    unsafe { libc::kill(-(leader as libc::pid_t), libc::SIGKILL) };
}

/// Returns how many bytes this process and its finished children have caused to be read from disk.
pub fn read_bytes() -> io::Result<u64> {
    let counters = std::fs::read_to_string("/proc/self/io")?;
    let count = counters.lines().find_map(|line| line.strip_prefix("read_bytes: ")?.parse().ok());
    count.ok_or_else(|| io::Error::other("no read_bytes in /proc/self/io"))
}

/// Returns a value from `/proc/<pid>/status`, such as `RssAnon` or `VmHWM`, in bytes.
pub fn status_bytes(pid: u32, field: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("no {field} in /proc/{pid}/status")))
}
