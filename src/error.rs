//! The one [`Error`] of the crate: what failed, on which file, what was expected, what was found, the way out.

use crate::sys;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What every fallible call of this crate returns.
///
/// ```
/// fn first(path: &str) -> ndarray_mmap::Result<f32> {
///     Ok(ndarray_mmap::MmapArray::<f32, ndarray::Ix1>::open(path)?[0])
/// }
/// assert!(first("/nowhere/a.npy").is_err());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which sort of failure an [`Error`] is; match on this rather than on the text.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{ErrorKind, MmapArray};
///
/// match MmapArray::<f32, Ix1>::open("/nowhere/a.npy").map_err(|error| error.kind()) {
///     Err(ErrorKind::NotFound) => println!("no such file"),
///     Err(ErrorKind::InUse) => println!("somebody writes to it"),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file, or a parent directory that the call may not create, does not exist.
    NotFound,
    /// `create_new` found a file of that name.
    AlreadyExists,
    /// The operating system refused access.
    PermissionDenied,
    /// An argument makes no sense here: an empty path, a missing shape, an offset for an NPY file.
    InvalidInput,
    /// The path names something that is not a regular file.
    NotAFile,
    /// The shape or the number of dimensions is not the one that was asked for.
    ShapeMismatch,
    /// The file holds another element type.
    DtypeMismatch,
    /// The NPY header is damaged, hostile, or says something that cannot be mapped.
    InvalidHeader,
    /// The file is shorter than its array, or, for NPY, of any other length.
    LengthMismatch,
    /// A size does not fit the address space, or a multiplication of lengths overflows.
    SizeOverflow,
    /// There is no memory, no address space or no free entry in the kernel's tables for a mapping or a buffer.
    OutOfMemory,
    /// The data does not start at a multiple of the element's alignment.
    Unaligned,
    /// Another array, here or in another process, holds the bytes.
    InUse,
    /// The filesystem knows no locks and `require_lock(true)` was asked for.
    LockUnavailable,
    /// The disk, or the quota, is full.
    StorageFull,
    /// The array was closed by path while its owner still lives.
    Closed,
    /// An access to mapped memory faulted at this byte offset in the file.
    Fault {
        /// Where in the file the first faulting page starts, in bytes.
        offset: u64,
    },
    /// An earlier flush failed; what is on disk is unknown until the file is opened again.
    Poisoned,
    /// A row or column index is past the end of its axis.
    OutOfBounds,
    /// Source and destination of a copy share bytes.
    Overlap,
    /// The caller's progress function asked to stop.
    Cancelled,
    /// A function given by the caller panicked.
    Panicked,
    /// The platform or the filesystem cannot do this.
    Unsupported,
    /// Any other failure that the operating system reported; see [`source`](std::error::Error::source).
    Io,
}

impl ErrorKind {
    /// The kind that an operating-system error stands for.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::PermissionDenied,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::StorageFull,
            io::ErrorKind::FileTooLarge => Self::SizeOverflow,
            io::ErrorKind::OutOfMemory => Self::OutOfMemory,
            io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory => Self::NotAFile,
            io::ErrorKind::Unsupported => Self::Unsupported,
            _ => Self::Io,
        }
    }

    fn to_io(self) -> io::ErrorKind {
        match self {
            Self::NotFound => io::ErrorKind::NotFound,
            Self::AlreadyExists => io::ErrorKind::AlreadyExists,
            Self::PermissionDenied => io::ErrorKind::PermissionDenied,
            Self::InvalidInput | Self::NotAFile | Self::OutOfBounds | Self::Overlap => {
                io::ErrorKind::InvalidInput
            }
            Self::ShapeMismatch
            | Self::DtypeMismatch
            | Self::InvalidHeader
            | Self::LengthMismatch
            | Self::Unaligned => io::ErrorKind::InvalidData,
            Self::SizeOverflow => io::ErrorKind::FileTooLarge,
            Self::OutOfMemory => io::ErrorKind::OutOfMemory,
            Self::InUse => io::ErrorKind::ResourceBusy,
            Self::StorageFull => io::ErrorKind::StorageFull,
            Self::LockUnavailable | Self::Unsupported => io::ErrorKind::Unsupported,
            Self::Cancelled => io::ErrorKind::Interrupted,
            Self::Closed | Self::Fault { .. } | Self::Poisoned | Self::Panicked | Self::Io => {
                io::ErrorKind::Other
            }
        }
    }
}

/// Why a call failed.
///
/// The text has one form, `operation "path": expected .., found ..; way out`, so that a log line is enough to act on:
///
/// - the operation is the function that you called;
/// - the path is that of the file that failed, or of the file that the call was about, where there is one;
/// - the way out says what you can do, where the library knows something.
///
/// If the operating system reported the failure, [`source`](std::error::Error::source) is its [`io::Error`], with the error
/// number. The text says the same in other words ("found a full disk"), and does not repeat that of its source. So a
/// reporter that prints the chain of sources prints nothing twice, and one that prints the text alone leaves nothing out.
///
/// ```
/// use ndarray::Ix2;
/// use ndarray_mmap::{ErrorKind, MmapArray};
///
/// let error = MmapArray::<f32, Ix2>::open("/nowhere/traj.npy").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert!(error.to_string().starts_with("open \"/nowhere/traj.npy\": expected "));
///
/// let source = std::error::Error::source(&error).expect("the operating system reported the failure");
/// assert_eq!(source.downcast_ref().and_then(std::io::Error::raw_os_error), Some(2));
/// assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::NotFound);
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    path: Option<PathBuf>,
    expected: Cow<'static, str>,
    found: Cow<'static, str>,
    way_out: Option<Cow<'static, str>>,
    source: Option<io::Error>,
}

impl Error {
    /// An error of the crate's own finding. `expected` and `found` complete the sentence "expected .., found ..".
    pub(crate) fn new(
        kind: ErrorKind,
        operation: &'static str,
        expected: impl Into<Cow<'static, str>>,
        found: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Inner {
            kind,
            operation,
            path: None,
            expected: expected.into(),
            found: found.into(),
            way_out: None,
            source: None,
        }))
    }

    /// An error that the operating system reported; `expected` says what was tried. An error without a number of the system is the
    /// crate's own: its text says all, and there is no source.
    pub(crate) fn io(
        operation: &'static str,
        expected: impl Into<Cow<'static, str>>,
        source: io::Error,
    ) -> Self {
        let kind = ErrorKind::of_io(&source);
        let mut error = Self::new(kind, operation, expected, sys::in_words(&source));
        error.0.way_out = way_out_of(kind).map(Cow::Borrowed);
        error.0.source = Some(source).filter(|source| source.raw_os_error().is_some());
        error
    }

    /// The error of a buffer of `len` bytes that the system has no memory for.
    pub(crate) fn no_memory(operation: &'static str, len: usize, source: io::Error) -> Self {
        let mut error = Self::io(operation, format!("{len} bytes of memory for a buffer"), source);
        error.0.kind = ErrorKind::OutOfMemory;
        error.or_else_try("give the stream a smaller `Budget`, or free memory")
    }

    /// The error of bytes that the disk has no room for, or that another failure of the system kept from the file. `free_bytes` is
    /// the room on the filesystem.
    pub(crate) fn no_space(
        operation: &'static str,
        len: u64,
        free_bytes: Option<u64>,
        source: io::Error,
    ) -> Self {
        let error = Self::io(operation, format!("{len} bytes of disk space"), source);
        match (error.kind(), free_bytes) {
            (ErrorKind::StorageFull, Some(free)) => {
                error.or_else_try(format!("{free} bytes are free: make room, or write to another filesystem"))
            }
            _ => error,
        }
    }

    /// Names the file, unless an inner layer has already named one.
    #[must_use]
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// Names the operation that the caller knows, in place of the inner step that failed.
    #[must_use]
    pub(crate) fn during(mut self, operation: &'static str) -> Self {
        self.0.operation = operation;
        self
    }

    /// The same failure, to be told to somebody else: without the system's own error, which cannot be copied.
    #[must_use]
    pub(crate) fn repeated(&self) -> Self {
        let Inner { kind, operation, path, expected, found, way_out, source: _ } = &*self.0;
        let (kind, operation, path) = (*kind, *operation, path.clone());
        let (expected, found, way_out) = (expected.clone(), found.clone(), way_out.clone());
        Self(Box::new(Inner { kind, operation, path, expected, found, way_out, source: None }))
    }

    /// Says what the caller can do about it.
    #[must_use]
    pub(crate) fn or_else_try(mut self, way_out: impl Into<Cow<'static, str>>) -> Self {
        self.0.way_out = Some(way_out.into());
        self
    }

    /// Which sort of failure this is.
    ///
    /// ```
    /// # use ndarray_mmap::{ErrorKind, prepare_path};
    /// assert_eq!(prepare_path("", false).unwrap_err().kind(), ErrorKind::InvalidInput);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file that the failing call was about, where there is one.
    ///
    /// ```
    /// let error = ndarray_mmap::MmapArray::<f32, ndarray::Ix1>::open("/nowhere/a.npy").unwrap_err();
    /// assert_eq!(error.path(), Some("/nowhere/a.npy".as_ref()));
    /// ```
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

/// What the caller can do about an error of the system, where the call that failed has nothing better to say.
fn way_out_of(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::PermissionDenied => Some("check owner and mode of the file and of its directory"),
        ErrorKind::StorageFull => Some("make room, or write to another filesystem"),
        ErrorKind::SizeOverflow => {
            Some("raise the limit `ulimit -f`, or choose a filesystem for larger files")
        }
        ErrorKind::OutOfMemory => Some("free memory, or raise the limits `ulimit -v` and `vm.max_map_count`"),
        _ => None,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, path, expected, found, way_out, .. } = &*self.0;
        f.write_str(operation)?;
        if let Some(path) = path {
            write!(f, " {path:?}")?;
        }
        write!(f, ": expected {expected}, found {found}")?;
        match way_out {
            Some(way_out) => write!(f, "; {way_out}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

/// Keeps the whole error as the source of the [`io::Error`], so nothing is lost on the way through `?`.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::new(error.kind().to_io(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn the_text_of_an_error_does_not_repeat_its_source() {
        for number in 1..140 {
            let error = Error::io("flush", "bytes to reach the disk", io::Error::from_raw_os_error(number));
            let (text, source) = (error.to_string().to_lowercase(), error.source().unwrap().to_string());
            let (words, _) = source.split_once(" (os error").unwrap();
            assert!(!text.contains(&words.to_lowercase()), "{text}: {source}");
        }
        let own =
            Error::io("flush", "bytes to reach the disk", io::Error::other("a reason of the crate's own"));
        assert!(own.source().is_none() && own.to_string().ends_with("found a reason of the crate's own"));
    }

    #[test]
    fn a_buffer_without_memory_is_out_of_memory_whatever_the_system_reports() {
        for source in [io::ErrorKind::OutOfMemory.into(), io::Error::from_raw_os_error(libc::EAGAIN)] {
            let error = Error::no_memory("fold", 100, source);
            assert_eq!(error.kind(), ErrorKind::OutOfMemory);
            let text = error.to_string();
            assert!(text.starts_with("fold: expected 100 bytes of memory for a buffer, found "), "{text}");
            assert!(text.ends_with("; give the stream a smaller `Budget`, or free memory"), "{text}");
        }
    }

    #[test]
    fn the_guide_has_a_row_for_every_kind() {
        let (_, variants) = include_str!("error.rs").split_once("pub enum ErrorKind {\n").unwrap();
        let (variants, _) = variants.split_once("\n}\n").unwrap();
        let word = |line: &'static str| line.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        let variants = variants.lines().filter_map(|line| line.strip_prefix("    ").map(word));
        let rows =
            include_str!("guide/errors.md").lines().filter_map(|line| line.strip_prefix("| `").map(word));
        let (variants, rows): (Vec<_>, Vec<_>) =
            (variants.filter(|word| !word.is_empty()).collect(), rows.collect());
        assert!(variants.len() > 20 && variants == rows, "{variants:?} {rows:?}");
    }
}
