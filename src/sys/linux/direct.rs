//! Transfers that bypass the page cache, or leave it unchanged.
#![allow(unsafe_code)]

use super::files::off_len;
use crate::sys::inject::{Call, through};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Opens the same file again for direct I/O, which bypasses the page cache. This works even if the file has lost its
/// name.
///
/// Fails with `EMFILE` if few descriptors would be left: there are other ways to read and write the file, but a stream
/// that reads many files must still be able to create a file.
pub(crate) fn open_direct(file: &File, writable: bool) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut options = OpenOptions::new();
    options.read(true).write(writable).custom_flags(libc::O_DIRECT);
    let direct = through(Call::Open, || options.open(&path))?;
    if is_scarce(&direct) { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok(direct) }
}

/// Returns whether at least seven eighths of the descriptors that this process may open are in use. The kernel always
/// assigns the smallest free number, so all smaller numbers are in use.
fn is_scarce(newest: &File) -> bool {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer is to a live structure of the type that the call fills in. If the call fails, the structure
    // does not change.
    let _ = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    newest.as_raw_fd() as libc::rlim_t >= limit.rlim_cur - limit.rlim_cur / 8
}

/// Reads only resident pages, and nothing from disk. Stops at a page that is not resident, and at a page at which the
/// kernel would read ahead. If the first page is such a page, fails with `WouldBlock`.
pub(crate) fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let (at, _) = off_len(&(offset..offset))?;
    let target = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    through(Call::Read, || {
        // SAFETY: `target` describes the writable bytes of `buffer`, which is live during the call.
        let result = unsafe { libc::preadv2(file.as_raw_fd(), &raw const target, 1, at, libc::RWF_NOWAIT) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    })
}

/// `RWF_DONTCACHE` of Linux 6.14, which libc does not declare.
const RWF_DONTCACHE: libc::c_int = 0x80;

/// Writes with one system call, through pages that the kernel drops from the page cache after write-back.
///
/// If the kernel or the filesystem does not support such writes, writes nothing and fails with `EOPNOTSUPP`.
pub(crate) fn write_uncached(file: &File, buffer: &[u8], offset: u64) -> io::Result<usize> {
    let (at, _) = off_len(&(offset..offset))?;
    let block = libc::iovec { iov_base: buffer.as_ptr().cast_mut().cast(), iov_len: buffer.len() };
    through(Call::Write, || {
        // SAFETY: `block` describes the readable bytes of `buffer`, which is live during the call.
        let result = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const block, 1, at, RWF_DONTCACHE) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    })
}
