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

/// Returns the offset and the length of a byte range in the kernel's own type.
pub(super) fn off_len(range: &Range<u64>) -> io::Result<(libc::off_t, libc::off_t)> {
    let off_t = |value: u64| libc::off_t::try_from(value).map_err(|_| overflow());
    Ok((off_t(range.start)?, off_t(range.end.saturating_sub(range.start))?))
}

/// Returns the offset and the length of a byte range, or `None` if the range is empty. Several system calls interpret a
/// length of zero as "up to the end of the file".
pub(super) fn non_empty(range: &Range<u64>) -> io::Result<Option<(libc::off_t, libc::off_t)>> {
    if range.is_empty() { Ok(None) } else { off_len(range).map(Some) }
}

/// Allocates disk space for a range of bytes, and extends the file to the end of the range. New bytes are zero.
pub(crate) fn reserve(file: &File, range: Range<u64>) -> io::Result<()> {
    let (offset, len) = off_len(&range)?;
    // `posix_fallocate` is not used. If the filesystem cannot reserve space, `posix_fallocate` writes zeros and does
    // not report that. SAFETY: `fallocate` takes an open descriptor and integers, and accesses no memory of this
    // process.
    through(Call::Allocate, || check(unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, len) }))
}

/// Writes the range's dirty pages back, and waits until the write-back is complete. Does not sync metadata or the
/// disk's own cache.
pub(crate) fn sync_range(file: &File, range: Range<u64>) -> io::Result<()> {
    let wait_for_all =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    sync_file_range(file, &range, wait_for_all)
}

/// Starts write-back of the range's dirty pages and does not wait.
pub(crate) fn start_writeback(file: &File, range: Range<u64>) -> io::Result<()> {
    sync_file_range(file, &range, libc::SYNC_FILE_RANGE_WRITE)
}

fn sync_file_range(file: &File, range: &Range<u64>, flags: libc::c_uint) -> io::Result<()> {
    let Some((offset, len)) = non_empty(range)? else { return Ok(()) };
    // SAFETY: `sync_file_range` takes an open descriptor and integers, and accesses no memory of this process.
    through(Call::Sync, || check(unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, flags) }))
}

/// Makes all data on the file's filesystem durable. If the system refuses `syncfs`, makes all data on all filesystems
/// durable.
pub(crate) fn sync_filesystem(file: &File) -> io::Result<()> {
    // SAFETY: `syncfs` takes an open descriptor, and accesses no memory of this process.
    match check(unsafe { libc::syncfs(file.as_raw_fd()) }) {
        Err(error) if refuses_arguments(&error) => {
            // SAFETY: `sync` has no arguments and no result. On Linux it waits for the writes.
            unsafe { libc::sync() };
            Ok(())
        }
        synced => synced,
    }
}

/// Creates a file without a name on the directory's filesystem. Fails with `Unsupported` if the filesystem has no
/// unnamed files.
pub(crate) fn create_unnamed(directory: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_TMPFILE);
    through(Call::Open, || options.open(directory)).map_err(|error| match error.raw_os_error() {
        // A kernel without `O_TMPFILE` returns the error for an attempt to open a directory for writing.
        Some(libc::EISDIR) => io::ErrorKind::Unsupported.into(),
        _ => error,
    })
}

/// Gives a name to a file that was [created without a name](create_unnamed). Fails if the name exists. The file must be
/// reachable through `/proc`, because `AT_EMPTY_PATH` requires a capability before Linux 6.10.
pub(crate) fn link_unnamed(file: &File, name: &Path) -> io::Result<()> {
    let from = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(name.as_os_str().as_bytes())?;
    let (cwd, flag) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    // SAFETY: both strings end in NUL and are live during the call.
    through(Call::Publish, || check(unsafe { libc::linkat(cwd, from.as_ptr(), cwd, to.as_ptr(), flag) }))
}

/// Renames a file atomically. Returns an error if a file with the new name exists.
pub(crate) fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (from, to) = (text(from)?, text(to)?);
    let (cwd, flag) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
    // SAFETY: both strings end in NUL and are live during the call.
    through(Call::Publish, || check(unsafe { libc::renameat2(cwd, from.as_ptr(), cwd, to.as_ptr(), flag) }))
}
