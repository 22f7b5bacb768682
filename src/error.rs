//! [`Error`], the only error type of the crate. It contains the failed operation, the path of the file, what was
//! expected, what was found, and the way out.

use crate::sys;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of every fallible function of this crate.
///
/// ```
/// fn first(path: &str) -> ndarray_mmap::Result<f32> {
///     Ok(ndarray_mmap::MmapArray::<f32, ndarray::Ix1>::open(path)?[0])
/// }
/// assert!(first("/nowhere/a.npy").is_err());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of failure that an [`Error`] reports. Match on the kind rather than on the text.
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
    /// The file does not exist, or one of its parent directories does not exist and the call may not create it.
    NotFound,
    /// `create_new` found a file of that name.
    AlreadyExists,
    /// The operating system refused access.
    PermissionDenied,
    /// An argument is not valid for the call, for example an empty path, a missing shape, or an offset for an NPY file.
    InvalidInput,
    /// The path names something that is not a regular file.
    NotAFile,
    /// The shape or the number of dimensions is not the one that was asked for.
    ShapeMismatch,
    /// The file contains elements of another type.
    DtypeMismatch,
    /// The NPY header is damaged or hostile, or describes an array that cannot be mapped.
    InvalidHeader,
    /// The file is shorter than its array. For an NPY file, also if the file is longer than its array.
    LengthMismatch,
    /// A size does not fit the address space, or a multiplication of lengths overflows.
    SizeOverflow,
    /// There is no memory, no address space or no free entry in the kernel's tables for a mapping or a buffer.
    OutOfMemory,
    /// The data does not start at a multiple of the element's alignment.
    Unaligned,
    /// Another array, in this process or in another one, has locked these bytes.
    InUse,
    /// The filesystem does not support locks, and `require_lock(true)` was set, or a result must be built that other
    /// processes could build, too.
    LockUnavailable,
    /// The disk, or the quota, is full.
    StorageFull,
    /// The array was closed by its path, while its owner is still alive.
    Closed,
    /// An access to mapped memory faulted at this byte offset in the file.
    Fault {
        /// Where in the file the first faulting page starts, in bytes.
        offset: u64,
    },
    /// An earlier flush failed; what is on disk is unknown until the file is opened again.
    Poisoned,
    /// The file of a writer has no name any more: the name was deleted, or another file has taken it. The bytes are in
    /// the file, but nobody can open the file.
    NameLost,
    /// A row or column index is past the end of its axis.
    OutOfBounds,
    /// Source and destination of a copy share bytes.
    Overlap,
    /// The caller's progress function asked to stop.
    Cancelled,
    /// A function given by the caller panicked.
    Panicked,
    /// A function given by the caller returned an error, which is the [`source`](std::error::Error::source) of this error.
    FunctionFailed,
    /// The platform or the filesystem does not support the operation.
    Unsupported,
    /// Any other failure that the operating system reported; see [`source`](std::error::Error::source).
    Io,
}

impl ErrorKind {
    /// Returns the kind for an error of the operating system.
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
            Self::Closed
            | Self::Fault { .. }
            | Self::Poisoned
            | Self::NameLost
            | Self::Panicked
            | Self::FunctionFailed
            | Self::Io => io::ErrorKind::Other,
        }
    }
}

/// The reason why a call failed.
///
/// The text has one form, `operation "path": expected .., found ..; way out`, so that a line in a log is enough to act
/// on:
///
/// - the operation is the function that you called;
/// - the path is that of the file with the failure, or else of the file that was passed to the function. There is no
///   path if no file is involved;
/// - the way out says what you can do. It is missing if the crate has no advice.
///
/// If the operating system reported the failure, [`source`](std::error::Error::source) is its [`io::Error`], with the
/// error number. The text describes the failure in its own words ("found a full disk") and does not repeat the text of
/// the source. So a reporter that prints the whole chain of sources prints nothing twice, and a reporter that prints
/// only the text leaves nothing out.
///
/// If a function of the caller returned an error, `source` is that error itself, and can be downcast to its type.
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

/// An error of the operating system, or of a function of the caller.
type Source = Box<dyn std::error::Error + Send + Sync>;

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    path: Option<PathBuf>,
    expected: Cow<'static, str>,
    found: Cow<'static, str>,
    remedy: Option<Cow<'static, str>>,
    source: Option<Source>,
}

impl Error {
    /// Creates an error for a failure that this crate detected. `expected` and `found` complete the sentence "expected
    /// .., found ..".
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
            remedy: None,
            source: None,
        }))
    }

    /// Creates the error for a failure that the operating system reported. `expected` says what was tried. If `source`
    /// has no error number, this crate created it: its text then says everything, so the new error gets no source.
    pub(crate) fn io(
        operation: &'static str,
        expected: impl Into<Cow<'static, str>>,
        source: io::Error,
    ) -> Self {
        let kind = ErrorKind::of_io(&source);
        let mut error = Self::new(kind, operation, expected, sys::in_words(&source));
        error.0.remedy = remedy_for(kind).map(Cow::Borrowed);
        error.0.source = source.raw_os_error().is_some().then(|| source.into());
        error
    }

    /// Creates the error for an error that a function of the caller returned.
    pub(crate) fn of_function(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let mut error = Self::new(
            ErrorKind::FunctionFailed,
            "stream",
            "the caller's function to return `Ok`",
            "an error of the function",
        );
        error.0.source = Some(source.into());
        error.with_remedy("`source()` is the error that the function returned")
    }

    /// Returns the error for a buffer of `len` bytes for which the system has no memory.
    pub(crate) fn no_memory(operation: &'static str, len: usize, source: io::Error) -> Self {
        let mut error = Self::io(operation, format!("{len} bytes of memory for a buffer"), source);
        error.0.kind = ErrorKind::OutOfMemory;
        error.with_remedy("give the stream a smaller `Budget`, or free memory")
    }

    /// Returns the error for `len` bytes of disk space that the system did not provide, because the disk is full or for
    /// another reason. `free_bytes` is the free space of the filesystem.
    pub(crate) fn no_space(
        operation: &'static str,
        len: u64,
        free_bytes: Option<u64>,
        source: io::Error,
    ) -> Self {
        let error = Self::io(operation, format!("{len} bytes of disk space"), source);
        match (error.kind(), free_bytes) {
            (ErrorKind::StorageFull, Some(free)) => {
                error.with_remedy(format!("{free} bytes are free: make room, or write to another filesystem"))
            }
            _ => error,
        }
    }

    /// Sets the path of the file, unless an inner layer has already set a path.
    #[must_use]
    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.0.path.get_or_insert_with(|| path.to_path_buf());
        self
    }

    /// Replaces the name of the inner step that failed by the name of the operation that the user called.
    #[must_use]
    pub(crate) fn during(mut self, operation: &'static str) -> Self {
        self.0.operation = operation;
        self
    }

    /// Returns a copy of this error, for another caller. The copy has no source, because the source cannot be
    /// cloned.
    #[must_use]
    pub(crate) fn repeated(&self) -> Self {
        let Inner { kind, operation, path, expected, found, remedy, source: _ } = &*self.0;
        let (kind, operation, path) = (*kind, *operation, path.clone());
        let (expected, found, remedy) = (expected.clone(), found.clone(), remedy.clone());
        Self(Box::new(Inner { kind, operation, path, expected, found, remedy, source: None }))
    }

    /// Sets the remedy: what the user can do about the error.
    #[must_use]
    pub(crate) fn with_remedy(mut self, remedy: impl Into<Cow<'static, str>>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Returns the kind of failure.
    ///
    /// ```
    /// # use ndarray_mmap::{ErrorKind, prepare_path};
    /// assert_eq!(prepare_path("", false).unwrap_err().kind(), ErrorKind::InvalidInput);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the path in this error, if there is one: the file with the failure, or the file that was passed to the
    /// function.
    ///
    /// ```
    /// let error = ndarray_mmap::MmapArray::<f32, ndarray::Ix1>::open("/nowhere/a.npy").unwrap_err();
    /// assert_eq!(error.path(), Some("/nowhere/a.npy".as_ref()));
    /// ```
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }
}

/// Returns what the user can do about an error of the system, unless the failed call gives better advice.
fn remedy_for(kind: ErrorKind) -> Option<&'static str> {
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
        let Inner { operation, path, expected, found, remedy, .. } = &*self.0;
        f.write_str(operation)?;
        if let Some(path) = path {
            write!(f, " {path:?}")?;
        }
        write!(f, ": expected {expected}, found {found}")?;
        match remedy {
            Some(remedy) => write!(f, "; {remedy}"),
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
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Keeps the whole error as the source of the [`io::Error`], so `?` loses no information.
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
