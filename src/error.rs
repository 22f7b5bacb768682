//! The one [`Error`] of the crate: what failed, on which file, what was expected, what was found, the way out.

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
/// The text has one form, `operation "path": expected .., found ..; way out`, so that a log line is enough to act on.
///
/// ```
/// use ndarray::Ix2;
/// use ndarray_mmap::{ErrorKind, MmapArray};
///
/// let error = MmapArray::<f32, Ix2>::open("/nowhere/traj.npy").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::NotFound);
/// assert!(error.to_string().starts_with("open \"/nowhere/traj.npy\": expected "));
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

    /// An error that the operating system reported; `expected` says what was tried.
    pub(crate) fn io(
        operation: &'static str,
        expected: impl Into<Cow<'static, str>>,
        source: io::Error,
    ) -> Self {
        let mut error = Self::new(ErrorKind::of_io(&source), operation, expected, source.to_string());
        error.0.source = Some(source);
        error
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
