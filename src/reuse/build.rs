//! [`open_or_build`]: opens a finished result, or builds it.

use super::canonical::canonical;
use super::place::Place;
use crate::access::{Access, ReadOnly};
use crate::array::MmapArray;
use crate::error::{Error, ErrorKind, Result};
use crate::file::ArrayOptions;
use bytemuck::Pod;
use ndarray::Dimension;
use serde::Serialize;
use std::path::Path;

/// What a function that builds a result returns: nothing, or the array that it has filled, which is then closed. The
/// trait is sealed.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, ReadOnly, reuse::open_or_build};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("a.npy");
/// let ones: MmapArray<f32, Ix1, ReadOnly> = open_or_build(&path, &(), |out| {
///     let mut ones = MmapArray::<f32, Ix1>::create(out, 100)?;
///     ones.fill(1.0);
///     Ok::<_, ndarray_mmap::Error>(ones)
/// })?;
/// assert_eq!(ones.sum(), 100.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Built: sealed::Sealed {
    #[doc(hidden)]
    fn finish(self) -> Result<()>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<T, D, A: crate::access::Access> Sealed for super::MmapArray<T, D, A> {}
}

impl Built for () {
    fn finish(self) -> Result<()> {
        Ok(())
    }
}

impl<T: 'static, D, A: Access> Built for MmapArray<T, D, A> {
    fn finish(self) -> Result<()> {
        self.close()
    }
}

/// Opens the array at `path` if it is the finished result for these parameters. Otherwise calls `build`, publishes the
/// file that it makes, and opens this file.
///
/// The argument of `build` is the path of the new file. `build` can create the file in any way:
///
/// - by a stream: `|out| stream.write_to(out)`;
/// - by a mapped array that it fills: `MmapArray::create(out, shape)`. Close this array, or return it;
/// - by any other function or program that creates a file of this name.
///
/// A result is *finished* if a build with equal parameters, the same element type and the same shape returned `Ok`, and
/// if the file has not changed since. Otherwise a file at `path` is replaced. Arrays that have the old file open keep the
/// old bytes.
///
/// Only a build that returned `Ok` is ever visible at `path`. If `build` returns an error or panics, nothing remains. If
/// the process is killed or the power fails, the name leads to the old file or to the complete new file.
///
/// If several threads and processes want the same result at the same time, one of them builds it, and the others wait. If
/// the builder fails or is killed, another one builds. To open a finished result, read access is enough.
///
/// # Parameters
///
/// The parameters are compared by the values that they serialise to, not by their types: integers of any width are equal
/// if their values are equal, `f32` equals `f64`, and the order of fields and of map entries does not matter. All NaN are
/// equal. `0.0` and `-0.0` differ. Names of fields and variants are compared, names of types are not. A `HashSet` has no
/// order that stays the same, so use a `BTreeSet`. If the code of `build` changes, change the parameters: for example, make
/// a version number part of them.
///
/// # Files
///
/// The file `traj.npy` gets a record in the file `traj.npy.reuse`. The record identifies `traj.npy` by its length and by
/// the time of its last change. To copy the result to another place, copy both files together with their times (`cp -a`,
/// `rsync -a`, `tar`). A copy with another time is built again. During the build, the new file is `.building-traj.npy` in the
/// same directory. A killed builder can leave this file. The next call that builds this result removes it.
///
/// ```
/// use ndarray::Ix2;
/// use ndarray_mmap::{MmapArray, reuse::open_or_build, stream::Stream};
///
/// # let folder = tempfile::tempdir()?;
/// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
/// let (path, params) = (folder.path().join("scaled.npy"), ("scaled", 2, 0.5));
/// let mut builds = 0;
/// for _ in 0..2 {
///     let scaled: MmapArray<f32, Ix2, _> = open_or_build(&path, &params, |out| {
///         builds += 1;
///         Stream::from(&table).map(|rows, mut to| to.assign(&(&rows * 0.5))).write_to(out)
///     })?;
///     assert_eq!(scaled.shape(), [1000, 3]);
/// }
/// assert_eq!(builds, 1); // the second call has opened the file
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// - [`FunctionFailed`](ErrorKind::FunctionFailed) if `build` returns an error, which is the
///   [`source`](std::error::Error::source). If this error is an [`Error`] of this crate, `open_or_build` returns it
///   unchanged.
/// - [`InvalidInput`](ErrorKind::InvalidInput) if the parameters cannot be serialised, or if the name is too long for the
///   names of the other two files.
/// - [`NotFound`](ErrorKind::NotFound) if `build` has created no file; [`DtypeMismatch`](ErrorKind::DtypeMismatch) and
///   [`ShapeMismatch`](ErrorKind::ShapeMismatch) if it has created another array.
/// - [`InUse`](ErrorKind::InUse) if a writable array maps the result, or if `build` asks for the result that it builds.
/// - [`LockUnavailable`](ErrorKind::LockUnavailable) if the result must be built, and the filesystem or the platform does
///   not support byte-range locks.
/// - [`PermissionDenied`](ErrorKind::PermissionDenied) if the result must be built, and the directory cannot be written;
///   [`StorageFull`](ErrorKind::StorageFull), [`NotAFile`](ErrorKind::NotAFile), and other errors of the file system.
pub fn open_or_build<T, D, P, O, E>(
    path: impl AsRef<Path>,
    params: &P,
    build: impl FnOnce(&Path) -> Result<O, E>,
) -> Result<MmapArray<T, D, ReadOnly>>
where
    T: Pod,
    D: Dimension,
    P: Serialize + ?Sized,
    O: Built,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    open_or_build_with(&ArrayOptions::new(), path, params, build)
}

/// Opens or builds a result, as [`open_or_build`] does, with the options with which the file is opened. A raw file needs
/// its shape. A finished result with another shape than that of the options is built again.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{ArrayOptions, MmapArray, reuse::open_or_build_with};
///
/// # let folder = tempfile::tempdir()?;
/// let options = ArrayOptions::new().shape(1000);
/// let squares: MmapArray<u64, Ix1, _> = open_or_build_with(&options, folder.path().join("squares.raw"), "squares", |out| {
///     let mut squares = options.create::<u64, Ix1>(out)?;
///     squares.iter_mut().zip(0..).for_each(|(to, number)| *to = number * number);
///     squares.close()
/// })?;
/// assert_eq!(squares[999], 998_001);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As for [`open_or_build`], and as for [`ArrayOptions::open`].
pub fn open_or_build_with<T, D, P, O, E>(
    options: &ArrayOptions,
    path: impl AsRef<Path>,
    params: &P,
    build: impl FnOnce(&Path) -> Result<O, E>,
) -> Result<MmapArray<T, D, ReadOnly>>
where
    T: Pod,
    D: Dimension,
    P: Serialize + ?Sized,
    O: Built,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = path.as_ref();
    let in_call = |error: Error| error.during("open_or_build").at(path);
    let params = canonical(params).map_err(|text| {
        let expected = "parameters that can be serialised";
        in_call(Error::new(ErrorKind::InvalidInput, "open_or_build", expected, text))
    })?;
    let params = blake3::hash(&params);
    if let Some(array) =
        Place::new(options, path, params, false).and_then(|place| place.find()).map_err(in_call)?
    {
        return Ok(array);
    }
    let place = Place::new(options, path, params, true).map_err(in_call)?;
    let turn = place.wait_for_turn().map_err(in_call)?;
    // Another process may have built the result while this thread waited.
    if let Some(array) = place.find().map_err(in_call)? {
        return Ok(array);
    }
    turn.prepare().map_err(in_call)?;
    let built = build(place.building()).map_err(|error| in_function(error.into(), path))?;
    built.finish().map_err(in_call)?;
    turn.publish::<T, D>().map_err(in_call)?;
    options.open(path).map_err(in_call)
}

/// Returns the error for an error of the caller's function. An error of this crate is returned unchanged.
fn in_function(error: Box<dyn std::error::Error + Send + Sync>, path: &Path) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(error) => Error::of_function(error).during("open_or_build").at(path),
    }
}
