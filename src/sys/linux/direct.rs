//! Transfers past the page cache, or without changing what it holds.
#![allow(unsafe_code)]

use super::files::off_len;
use crate::sys::inject::{Call, through};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

/// Opens the same file once more, whatever has become of its name, for transfers past the page cache.
pub(crate) fn open_direct(file: &File, writable: bool) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut options = OpenOptions::new();
    options.read(true).write(writable).custom_flags(libc::O_DIRECT);
    through(Call::Open, || options.open(&path))
}

/// Reads what is in the page cache, and lets the kernel read nothing: it stops short at a page that is not there, and at one
/// at which the kernel would have read ahead. `WouldBlock` if that is the first page.
pub(crate) fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let (at, _) = off_len(&(offset..offset))?;
    let target = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    through(Call::Read, || {
        // SAFETY: `target` is one vector of the writable bytes of `buffer`, which lives through the call.
        let result = unsafe { libc::preadv2(file.as_raw_fd(), &raw const target, 1, at, libc::RWF_NOWAIT) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    })
}

/// `RWF_DONTCACHE` of Linux 6.14, which libc does not declare.
const RWF_DONTCACHE: libc::c_int = 0x80;

/// Writes what one call takes by way of pages that the kernel drops from its cache once they are on disk.
///
/// `EOPNOTSUPP` where kernel or filesystem cannot: then nothing was written.
pub(crate) fn write_uncached(file: &File, buffer: &[u8], offset: u64) -> io::Result<usize> {
    let (at, _) = off_len(&(offset..offset))?;
    let block = libc::iovec { iov_base: buffer.as_ptr().cast_mut().cast(), iov_len: buffer.len() };
    through(Call::Write, || {
        // SAFETY: `block` is one vector of the readable bytes of `buffer`, which lives through the call.
        let result = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const block, 1, at, RWF_DONTCACHE) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    })
}
