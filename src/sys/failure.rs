//! Classification of the system's error numbers. Code outside this folder calls these functions and sees no error
//! number.

use std::borrow::Cow;
use std::io;

/// Returns whether an error means that the kernel or the filesystem does not support a call, or that a system call
/// filter refuses the call. The caller then uses a fallback.
///
/// Containers filter system calls with seccomp. A filter returns `EPERM` or `ENOSYS` for calls that it does not know.
/// `EPERM` can also be an error of the call itself. In that case the fallback fails in the same way, and its error is
/// reported.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY | libc::EPERM))
}

/// Returns whether an error means that a call, or a flag of the call, is not supported. Older kernels return `EINVAL`
/// for unknown flags. Use this function only for calls whose other arguments are known to be valid.
pub(crate) fn refuses_arguments(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL) || is_unsupported(error)
}

/// Returns whether an error means that two files cannot share disk space, so that the bytes must be copied.
pub(crate) fn cannot_share(error: &io::Error) -> bool {
    refuses_arguments(error) || matches!(error.raw_os_error(), Some(libc::EXDEV | libc::ETXTBSY))
}

/// Returns whether an error means that the kernel could not access memory of this process, for example a page of a
/// mapped file that was truncated.
pub(crate) fn is_bad_address(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EFAULT)
}

/// Describes an error of the system in words that follow "found" in the crate's error messages. The system's own text
/// is not included: see [`Error::source`](std::error::Error::source).
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

/// Returns the error for a path whose symbolic links form a cycle.
pub(crate) fn too_many_links() -> io::Error {
    io::Error::from_raw_os_error(libc::ELOOP)
}

/// Returns the error for a number that does not fit the system's own types.
pub(super) fn overflow() -> io::Error {
    io::Error::from_raw_os_error(libc::EOVERFLOW)
}

/// Converts the result of a system call that returns 0 if it succeeds, and sets `errno` if it fails.
pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
