//! Byte-range locks that belong to an open file (`F_OFD_SETLK`).
#![allow(unsafe_code)]

use super::files::off_len;
use crate::sys::failure::{check, refuses_arguments};
use crate::sys::inject::{Call, through};
use crate::sys::types::{FileId, LockMode, LockOutcome};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

/// Returns a lock request for a byte range.
fn flock(range: &Range<u64>, kind: libc::c_int) -> io::Result<libc::flock> {
    let (start, len) = off_len(range)?;
    // SAFETY: `flock` consists of integers, for which zero is a valid value. OFD locks require that `l_pid` is zero.
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

/// Locks the range for this open file. If this open file has locked the range before, changes the mode of the lock.
/// Does not wait.
pub(crate) fn lock_range(file: &File, range: Range<u64>, mode: LockMode) -> io::Result<LockOutcome> {
    let mut request = flock(&range, lock_kind(mode))?;
    match fcntl_lock(file.as_raw_fd(), libc::F_OFD_SETLK, &mut request) {
        Ok(()) => Ok(LockOutcome::Taken),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Ok(LockOutcome::Conflict),
            Some(libc::ENOLCK) => Ok(LockOutcome::Unsupported),
            _ if refuses_arguments(&error) => Ok(LockOutcome::Unsupported),
            _ => Err(error),
        },
    }
}

/// Releases this open file's lock on the range.
pub(crate) fn unlock_range(file: &File, range: Range<u64>) -> io::Result<()> {
    let mut request = flock(&range, libc::F_UNLCK)?;
    fcntl_lock(file.as_raw_fd(), libc::F_OFD_SETLK, &mut request)
}

/// Returns the id of the process that holds a conflicting lock, if this process can find the holder.
pub(crate) fn lock_holder(file: &File, id: FileId, range: Range<u64>, mode: LockMode) -> Option<u32> {
    let mut request = flock(&range, lock_kind(mode)).ok()?;
    fcntl_lock(file.as_raw_fd(), libc::F_OFD_GETLK, &mut request).ok()?;
    match u32::try_from(request.l_pid) {
        Ok(0) => None,
        Ok(pid) => Some(pid),
        // For an open-file-description lock, the kernel reports the process -1. This function looks for the holder
        // among all processes in `/proc`.
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

/// Returns how the line for a lock in `/proc/PID/fdinfo/FD` ends: with device and inode, first byte and last byte.
fn lock_place(id: FileId, lock: &libc::flock) -> String {
    let last = match lock.l_len {
        0 => "EOF".to_owned(),
        len => (lock.l_start + len - 1).to_string(),
    };
    let (major, minor) = (libc::major(id.device), libc::minor(id.device));
    format!(" {major:02x}:{minor:02x}:{} {} {last}", id.inode, lock.l_start)
}

/// Returns whether one of the process's descriptors holds the lock whose line ends with `place`.
fn holds_lock_at(pid: u32, place: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .any(|info| info.lines().any(|line| line.starts_with("lock:") && line.ends_with(place)))
}
