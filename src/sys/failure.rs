//! Error numbers of the system, classified: the rest of the crate asks these questions and sees no number.

use std::borrow::Cow;
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

/// Says what the system reported, in words that complete "found ..". The system's own text for an error number is left to the error
/// itself: see [`Error::source`](std::error::Error::source).
pub(crate) fn in_words(error: &io::Error) -> Cow<'static, str> {
    let Some(number) = error.raw_os_error() else { return error.to_string().into() };
    Cow::Borrowed(match number {
        libc::ENOENT => "nothing of this name",
        libc::EEXIST => "a name that is taken",
        libc::EISDIR => "the path of a directory",
        libc::ENOTDIR => "a file in the place of a directory",
        libc::ELOOP => "symbolic links in a circle",
        libc::EACCES | libc::EPERM => "access denied",
        libc::EROFS => "a read-only filesystem",
        libc::ENOSPC => "a full disk",
        libc::EDQUOT => "a full quota",
        libc::EFBIG => "a limit below this length",
        libc::ENOMEM => "no free memory",
        libc::EMFILE => "the limit on open files of this process, `ulimit -n`",
        libc::ENFILE => "the limit on open files of the system",
        libc::EIO => "a failure of the device",
        libc::EBUSY => "a file that the system uses",
        libc::ENOSYS | libc::EOPNOTSUPP => "a system that has no such call",
        _ => return format!("error {number} of the system").into(),
    })
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
