//! Listing and closing arrays by the path of their file.

use crate::access::AccessMode;
use crate::error::{Error, Result};
use crate::file::{FileName, resolve_path};
use crate::map::{self, Mapping};
use crate::sys;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file of an array or a view, its access mode, and its range of bytes in the file.
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
    /// The absolute and normalised path of the file. For a scratch array it is the directory in which the file was created.
    pub path: PathBuf,
    /// The access mode of the mapping.
    pub access: AccessMode,
    /// The range of the file from the first element to the end of the last one.
    pub byte_range: Range<u64>,
}

impl Backing {
    pub(super) fn new(mapping: &Mapping, byte_range: Range<u64>) -> Self {
        Self { path: mapping.path().to_path_buf(), access: mapping.access(), byte_range }
    }
}

/// Returns every array that is open in this process, including arrays without elements, sorted by path and range.
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
    list(|mapping| !mapping.is_closed())
}

/// Returns every array of this process that was closed by its path and whose owner is still alive, sorted by path and
/// range.
///
/// Each of these arrays still holds its memory and its lock. To release memory and lock, drop the owner of the array,
/// or [`close`](crate::MmapArray::close) the array.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{ErrorKind, MmapArray, close_path, closed_arrays};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.npy");
/// let array = MmapArray::<u16, Ix1>::create(&path, 50)?;
/// close_path(&path)?;
/// assert!(closed_arrays().iter().any(|closed| closed.path == array.path()));
/// assert_eq!(MmapArray::<u16, Ix1>::open_rw(&path).unwrap_err().kind(), ErrorKind::InUse);
/// drop(array);
/// MmapArray::<u16, Ix1>::open_rw(&path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn closed_arrays() -> Vec<Backing> {
    list(Mapping::is_closed)
}

fn list(wanted: impl Fn(&Mapping) -> bool) -> Vec<Backing> {
    let all = map::all();
    let wanted = all.iter().filter(|mapping| wanted(mapping));
    let mut list: Vec<_> = wanted.map(|mapping| Backing::new(mapping, mapping.file_bytes())).collect();
    list.sort_by(|a, b| (&a.path, a.byte_range.start).cmp(&(&b.path, b.byte_range.start)));
    list
}

/// Closes every array of this process on a file, and returns how many arrays it closed.
///
/// Accepts any spelling of the path, and hard links. Marks each array as [closed](crate::ErrorKind::Closed), waits for
/// the blocks that streams are transferring, flushes the array, and evicts it if its [`OnDrop`](crate::OnDrop) asks for
/// it. From then on, the methods of the array, the functions for its views, and streams fail with
/// [`Closed`](crate::ErrorKind::Closed).
///
/// Borrows of the elements can still be alive, so each array keeps its memory and its lock until its owner is dropped
/// or [`close`](crate::MmapArray::close)d: [`closed_arrays`] lists those arrays. Until then, opening the file for
/// writing fails with [`InUse`](crate::ErrorKind::InUse). A new file of the same name can be created immediately.
/// Stores through a remaining borrow reach the old file, and are flushed when the owner is dropped.
///
/// # Errors
/// The first error, after the function has tried to close every array; [`InvalidInput`](crate::ErrorKind::InvalidInput) for
/// an empty path.
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
    close_where(operation, on_file(path.as_ref(), operation)?)
}

/// Returns a predicate for the mappings of the file at this path, including mappings that were opened by another name
/// of the file.
pub(super) fn on_file(path: &Path, operation: &'static str) -> Result<impl Fn(&Mapping) -> bool + use<>> {
    let path = resolve_path(path).map_err(|error| error.during(operation))?;
    let file = sys::status_of_path(&path).ok().map(|status| status.id);
    Ok(move |mapping: &Mapping| mapping.path() == path || file == Some(mapping.id()))
}

/// Closes every array of this process on files inside a directory, at any depth, and returns how many arrays it closed.
///
/// Names are compared component by component: `cache_ab` is not under `cache_a`. If `directory` is the path of a file,
/// arrays on that file are closed. A [scratch](crate::MmapArray::scratch) array is under no directory, because its file has
/// no name. [`close_path`] describes what closing means.
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
    let directory = resolve_path(directory.as_ref()).map_err(|error| error.during(operation))?;
    close_where(operation, |mapping| mapping.path().starts_with(&directory))
}

pub(super) fn close_where(operation: &'static str, matches: impl Fn(&Mapping) -> bool) -> Result<usize> {
    let mut closed = 0;
    let mut first_error: Option<Error> = None;
    let close = |mapping: Arc<Mapping>| match mapping.close_by_path() {
        Ok(was_open) => closed += usize::from(was_open),
        Err(error) => _ = first_error.get_or_insert(error.during(operation)),
    };
    // The file of a scratch array has no name, so no path matches it.
    map::all()
        .into_iter()
        .filter(|mapping| mapping.name() != FileName::Never && matches(mapping))
        .for_each(close);
    first_error.map_or(Ok(closed), Err)
}
