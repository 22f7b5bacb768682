//! The extents of files: finding holes, writing zeros without data, and sharing extents between files.
#![allow(unsafe_code)]

use super::files::off_len;
use crate::sys::failure::check;
use crate::sys::inject::{Call, through};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Returns the offset of the first data at or after `offset`. Returns `None` if there is no data before the end of the
/// file. Reserved space that was never written is not data, unless its pages were changed in the page cache.
pub(crate) fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    match seek(file, offset, libc::SEEK_DATA) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        found => found.map(Some),
    }
}

/// Returns the offset of the first hole at or after `offset`. The end of the file is a hole.
pub(crate) fn next_hole(file: &File, offset: u64) -> io::Result<u64> {
    seek(file, offset, libc::SEEK_HOLE)
}

/// The file's cursor moves, but no code of this crate uses the cursor.
fn seek(file: &File, offset: u64, whence: libc::c_int) -> io::Result<u64> {
    let (offset, _) = off_len(&(offset..offset))?;
    // SAFETY: `lseek` takes an open descriptor and integers, and accesses no memory of this process.
    let found = unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    u64::try_from(found).map_err(|_| io::Error::last_os_error())
}

/// Replaces a range by zeros and keeps its disk space reserved. The range does not reach beyond the end of the file.
pub(crate) fn zero(file: &File, range: Range<u64>) -> io::Result<()> {
    let (offset, len) = off_len(&range)?;
    let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: `fallocate` takes an open descriptor and integers, and accesses no memory of this process.
    through(Call::Write, || check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) }))
}

/// The argument of the request `FICLONERANGE`, which libc does not declare.
#[repr(C)]
struct CloneRange {
    from: i64,
    offset: u64,
    len: u64,
    to_offset: u64,
}

/// The request `FICLONERANGE`: `_IOW(0x94, 13, struct file_clone_range)`.
#[cfg(not(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "powerpc",
    target_arch = "powerpc64",
    target_arch = "sparc64"
)))]
pub(crate) const FICLONERANGE: u32 = 0x4020_940D;
#[cfg(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "powerpc",
    target_arch = "powerpc64",
    target_arch = "sparc64"
))]
pub(crate) const FICLONERANGE: u32 = 0x8020_940D;

/// Makes a range of `to` share the disk space of a range of `from`. Before that, writes back the changed pages of both
/// ranges. If the files cannot share space, returns an error that [`cannot_share`](crate::sys::cannot_share)
/// recognises.
pub(crate) fn clone_range(from: &File, range: &Range<u64>, to: &File, at: u64) -> io::Result<()> {
    let request = CloneRange {
        from: from.as_raw_fd().into(),
        offset: range.start,
        len: range.end - range.start,
        to_offset: at,
    };
    if request.len == 0 {
        return Ok(()); // for the kernel, a length of zero means "to the end of the file"
    }
    through(Call::Write, || {
        // SAFETY: the pointer is to a live structure of the layout that the kernel documents. The kernel only reads it.
        check(unsafe { libc::ioctl(to.as_raw_fd(), FICLONERANGE as _, &raw const request) })
    })
}
