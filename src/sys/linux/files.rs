//! Names, disk space and write-back of files.
#![allow(unsafe_code)]

use crate::sys::failure::{check, overflow, refuses_arguments};
use crate::sys::inject::{Call, through};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Offset and length of a byte range, as the kernel counts them.
pub(super) fn off_len(range: &Range<u64>) -> io::Result<(libc::off_t, libc::off_t)> {
    let off_t = |value: u64| libc::off_t::try_from(value).map_err(|_| overflow());
    Ok((off_t(range.start)?, off_t(range.end.saturating_sub(range.start))?))
}

/// Takes disk space for a range of bytes, and makes the file as long as that. New bytes read as zeros.
pub(crate) fn reserve(file: &File, range: Range<u64>) -> io::Result<()> {
    let (offset, len) = off_len(&range)?;
    // `posix_fallocate` would write zeros where the filesystem cannot reserve, without saying so.
    // SAFETY: `fallocate` takes an open descriptor and integers, and touches no memory of ours.
    through(Call::Allocate, || check(unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, len) }))
}

/// Writes the dirty pages of the range and waits for them. Says nothing of metadata or of the disk's own cache.
pub(crate) fn sync_range(file: &File, range: Range<u64>) -> io::Result<()> {
    let wait_for_all =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_file_range(file, &range, wait_for_all)
}

/// Starts writing the range's dirty pages to disk, and waits for nothing.
pub(crate) fn start_writeback(file: &File, range: Range<u64>) -> io::Result<()> {
    sync_file_range(file, &range, libc::SYNC_FILE_RANGE_WRITE)
}

fn sync_file_range(file: &File, range: &Range<u64>, flags: libc::c_uint) -> io::Result<()> {
    let (offset, len) = off_len(range)?;
    // SAFETY: `sync_file_range` takes an open descriptor and integers, and touches no memory of ours.
    through(Call::Sync, || check(unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) }))
}

/// Makes everything on the file's filesystem durable; everything on all of them where that is refused.
pub(crate) fn sync_filesystem(file: &File) -> io::Result<()> {
    // SAFETY: `syncfs` takes an open descriptor, and touches no memory of ours.
    match check(unsafe { libc::syncfs(file.as_raw_fd()) }) {
        Err(error) if refuses_arguments(&error) => {
            // SAFETY: `sync` takes nothing and reports nothing. On Linux it waits for the writes.
            unsafe { libc::sync() };
            Ok(())
        }
        synced => synced,
    }
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

/// Renames, unless the new name is taken, atomically.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (from, to) = (text(from)?, text(to)?);
    let (cwd, flag) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
    // SAFETY: both strings end in NUL and live through the call.
    through(Call::Publish, || check(unsafe { libc::renameat2(cwd, from.as_ptr(), cwd, to.as_ptr(), flag) }))
}
