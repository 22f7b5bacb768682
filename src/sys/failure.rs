//! Error numbers of the system, classified: the rest of the crate asks these questions and sees no number.

use std::io;

/// Whether the system, the filesystem or a filter of system calls does not offer a call: its fallback is to be used.
///
/// Containers filter system calls with seccomp, and answer `EPERM` or `ENOSYS` to those that they do not know. `EPERM` can
/// also be the system's own answer. Then the fallback meets the same rule and reports the same error.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY | libc::EPERM))
}

/// Whether a call is not offered, or not with these arguments: older kernels answer `EINVAL` to a flag that they do not
/// know. Only for calls whose other arguments are known to be right.
pub(crate) fn refuses_arguments(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL) || is_unsupported(error)
}

/// Whether the memory that was given to the system is not there: a page of a mapped file that was cut short.
pub(crate) fn is_bad_address(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EFAULT)
}

/// The error for a path on which links lead in a circle.
pub(crate) fn too_many_links() -> io::Error {
    io::Error::from_raw_os_error(libc::ELOOP)
}

/// The error for a number that the system's own types cannot hold.
pub(super) fn overflow() -> io::Error {
    io::Error::from_raw_os_error(libc::EOVERFLOW)
}

/// Checks the answer of a call that returns 0 or sets `errno`.
pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
