//! Arrays by the name of their file: listing and closing them.

use crate::access::AccessMode;
use crate::error::{Error, Result};
use crate::map::{self, Mapping};
use crate::path::prepare_path;
use crate::sys::FileId;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where an array's elements come from.
///
/// ```
/// use ndarray::{Ix2, s};
/// use ndarray_mmap::{AccessMode, MmapArray, backing};
///
/// let array = MmapArray::<f32, Ix2>::scratch((10, 3))?;
/// let found = backing(&array.slice(s![2..4, ..])).expect("the view lies in a file");
/// assert_eq!((found.path.as_path(), found.access), (array.path(), AccessMode::ReadWrite));
/// assert_eq!(found.byte_range, 24..48);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backing {
    /// The file, absolute and normalised.
    pub path: PathBuf,
    /// How it is mapped.
    pub access: AccessMode,
    /// Which bytes of the file the elements span: from the first to the end of the last.
    pub byte_range: Range<u64>,
}

impl Backing {
    pub(super) fn new(mapping: &Mapping, byte_range: Range<u64>) -> Self {
        Self { path: mapping.path().to_path_buf(), access: mapping.access(), byte_range }
    }
}

/// Every array that is open in this process, arrays without elements among them, in order of path and bytes.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{AccessMode, MmapArray, open_arrays};
///
/// let folder = tempfile::tempdir()?;
/// let array = MmapArray::<u16, Ix1>::create(folder.path().join("a.bin"), 50)?;
/// let listed = open_arrays().into_iter().find(|open| open.path == array.path()).unwrap();
/// assert_eq!((listed.access, listed.byte_range), (AccessMode::ReadWrite, 0..100));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn open_arrays() -> Vec<Backing> {
    let mut open: Vec<_> =
        map::all().iter().map(|mapping| Backing::new(mapping, mapping.file_bytes())).collect();
    open.sort_by(|a, b| (&a.path, a.byte_range.start).cmp(&(&b.path, b.byte_range.start)));
    open
}

/// Closes every array of this process on a file, and returns how many there were.
///
/// Any spelling of the path will do, hard links included. Each array is flushed, evicted as its
/// [`OnDrop`](crate::OnDrop) says, and gives its lock back. Its owner finds it [closed](crate::ErrorKind::Closed). Memory
/// that a live borrow can still see stays mapped until the owner goes; what is written through such a borrow from now on
/// is kept in this process and does not reach the file.
///
/// # Errors
/// What went wrong first, after all of them were tried; [`InvalidInput`](crate::ErrorKind::InvalidInput) for an empty
/// path.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{ErrorKind, MmapArray, close_path};
///
/// let folder = tempfile::tempdir()?;
/// let array = MmapArray::<u16, Ix1>::create(folder.path().join("a.bin"), 50)?;
/// assert_eq!(close_path(folder.path().join("./b/../a.bin"))?, 1);
/// assert_eq!(close_path(array.path())?, 0);
/// assert_eq!(array.try_view().unwrap_err().kind(), ErrorKind::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn close_path(path: impl AsRef<Path>) -> Result<usize> {
    let operation = "close_path";
    let path = prepare_path(path, false).map_err(|error| error.during(operation))?;
    let file = std::fs::metadata(&path).ok().map(|metadata| FileId::of(&metadata));
    close_where(operation, |mapping| mapping.path() == path || file == Some(mapping.id()))
}

/// Closes every array of this process on files inside a directory, at any depth, and returns how many there were.
///
/// Names are compared component by component: `cache_ab` is not under `cache_a`. A file counts as being under itself. For
/// what closing means, see [`close_path`].
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, close_under};
///
/// let folder = tempfile::tempdir()?;
/// let array = MmapArray::<u16, Ix1>::create(folder.path().join("runs/7/a.bin"), 50)?;
/// assert_eq!(close_under(folder.path().join("run"))?, 0);
/// assert_eq!(close_under(folder.path().join("runs"))?, 1);
/// assert!(array.is_closed());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As for [`close_path`].
pub fn close_under(directory: impl AsRef<Path>) -> Result<usize> {
    let operation = "close_under";
    let directory = prepare_path(directory, false).map_err(|error| error.during(operation))?;
    close_where(operation, |mapping| mapping.path().starts_with(&directory))
}

fn close_where(operation: &'static str, matches: impl Fn(&Mapping) -> bool) -> Result<usize> {
    let mut closed = 0;
    let mut first_error: Option<Error> = None;
    let close = |mapping: Arc<Mapping>| match mapping.close_borrowed() {
        Ok(was_open) => closed += usize::from(was_open),
        Err(error) => _ = first_error.get_or_insert(error.during(operation)),
    };
    map::all().into_iter().filter(|mapping| matches(mapping)).for_each(close);
    first_error.map_or(Ok(closed), Err)
}
