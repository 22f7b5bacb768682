//! [`MmapArray`]: the type itself, and how it becomes an ndarray.
#![allow(unsafe_code)]

mod any;
mod by_path;
mod by_view;
mod cache;
mod constructors;
#[cfg(test)]
pub(crate) mod injected;
mod options;
mod source;
mod traits;

pub use self::any::{AnyArray, AnyElement};
pub use self::by_path::{Backing, close_path, close_under, closed_arrays, open_arrays};
use self::by_path::{close_where, on_file};
pub(crate) use self::by_view::Placed;
pub use self::by_view::{backing, evict_view, flush_view, is_mmap_backed};
pub(crate) use self::source::publish;

use crate::access::{Access, ReadOnly, ReadWrite, Writable};
use crate::error::Result;
use crate::file::{ArrayOptions, Locking, dimensions, unaligned};
use crate::geometry::Geometry;
use crate::map::{self, Mapping};
use bytemuck::Pod;
use ndarray::{ArrayRef, ArrayView, ArrayViewMut, Dimension, Order, ShapeBuilder};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;

/// An n-dimensional array of `T` that lives in a file.
///
/// It dereferences to [`ndarray::ArrayRef`], so everything that reads an ndarray takes it as it stands, and everything
/// that writes one does where `A` is [`Writable`]. `A` says what the array may do with its file: [`ReadOnly`],
/// [`ReadWrite`] or [`CopyOnWrite`]. Dropping it flushes, evicts and closes; [`close`](Self::close) does the same and
/// reports what went wrong.
///
/// # Panics
/// Accessing the elements of an array that was closed by [path](crate::close_path) panics and says so;
/// [`try_view`](Self::try_view) returns an error instead.
///
/// # Examples
/// ```
/// use ndarray::{Axis, Ix3, s};
/// use ndarray_mmap::MmapArray;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("traj.npy");
/// let mut trajectory = MmapArray::<f32, Ix3>::create(&path, (100, 20, 3))?;
/// trajectory.slice_mut(s![10..20, .., 2]).fill(1.5);
/// trajectory[[99, 0, 0]] = 7.0;
/// assert_eq!(trajectory.mean_axis(Axis(0)).unwrap()[[5, 2]], 0.15);
/// trajectory.close()?;
///
/// let trajectory = MmapArray::<f32, Ix3>::open(&path)?;
/// assert_eq!(trajectory.sum(), 10.0 * 20.0 * 1.5 + 7.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A view cannot outlive its array:
///
/// ```compile_fail,E0505
/// # use ndarray::Ix1;
/// # use ndarray_mmap::MmapArray;
/// fn dangle(array: MmapArray<f32, Ix1>) {
///     let view = array.view();
///     drop(array);
///     println!("{view}");
/// }
/// ```
pub struct MmapArray<T: 'static, D, A = ReadWrite>
where
    A: Access,
{
    // Invariants:
    // 1. `view` lies within the memory of `handle`'s mapping, which stays at its address for as long as `handle` lives, or
    //    it has no elements;
    // 2. `view` is handed out mutably only where `A: Writable`;
    // 3. `geometry` is the layout in the file: changing the view's own layout (`swap_axes`, ..) does not touch it.
    view: ArrayViewMut<'static, T, D>,
    handle: Handle,
    geometry: Geometry,
    access: PhantomData<A>,
}

/// The owner of a mapping: closes it when it goes.
#[derive(Debug)]
struct Handle(Arc<Mapping>);

impl Drop for Handle {
    fn drop(&mut self) {
        // `Drop` has nobody to tell; `close` reports.
        let _ = self.0.close_by_owner();
    }
}

impl<T: Pod, D: Dimension> MmapArray<T, D, ReadWrite> {
    /// Turns a finished array into a reader without closing it, and lets other readers in.
    ///
    /// What was written is flushed first.
    ///
    /// # Errors
    /// What the system says if the data cannot be flushed, or the pages or the lock cannot be changed; the array is closed
    /// then. [`Closed`](crate::ErrorKind::Closed) if it was closed before.
    ///
    /// ```
    /// use ndarray::Ix1;
    /// use ndarray_mmap::{ErrorKind, MmapArray};
    ///
    /// let folder = tempfile::tempdir()?;
    /// let path = folder.path().join("a.npy");
    /// let writer = MmapArray::<u32, Ix1>::create(&path, 4)?;
    /// assert_eq!(MmapArray::<u32, Ix1>::open(&path).unwrap_err().kind(), ErrorKind::InUse);
    /// let finished = writer.into_read_only()?;
    /// let reader = MmapArray::<u32, Ix1>::open(&path)?;
    /// assert_eq!(finished, reader);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn into_read_only(self) -> Result<MmapArray<T, D, ReadOnly>> {
        self.handle.0.make_read_only().map_err(|error| error.during("into_read_only"))?;
        let Self { view, handle, geometry, .. } = self;
        Ok(MmapArray { view, handle, geometry, access: PhantomData })
    }
}

impl<T: Pod, D: Dimension, A: Access> MmapArray<T, D, A> {
    /// Puts an array on a mapping of `geometry.total_bytes()` bytes that was made with the access of `A`.
    fn assemble(mapping: Arc<Mapping>, geometry: Geometry) -> Result<Self> {
        let handle = Handle(mapping);
        let mapping = &handle.0;
        debug_assert_eq!(
            mapping.file_bytes().end - mapping.file_bytes().start,
            geometry.total_bytes() as u64
        );
        let first = match geometry.total_bytes() {
            0 => std::ptr::dangling_mut(),
            _ => mapping.as_mut_ptr().cast::<T>(),
        };
        if !first.is_aligned() {
            return Err(unaligned::<T>(mapping.file_bytes().start).at(mapping.path()));
        }
        let dimensions = dimensions::<D>(geometry.shape())?;
        let shape = dimensions.set_f(matches!(geometry.order(), Order::ColumnMajor));
        // SAFETY:
        // - `first` is aligned (checked above) and not null;
        // - a contiguous array of this shape has `total_bytes` bytes, all of them mapped (the geometry's and the mapping's
        //   invariants), for as long as `handle`, which stands beside the view, keeps the mapping; with no bytes at all
        //   there is no element to read;
        // - any bytes are a `T`, which is `Pod`;
        // - the lengths' product fits `isize` (the geometry's invariant);
        // - nobody else has a reference to this memory: each mapping is made for one array. Where it cannot be written,
        //   the view is never handed out mutably (invariant 2).
        let view = unsafe { ArrayViewMut::from_shape_ptr(shape, first) };
        Ok(Self { view, handle, geometry, access: PhantomData })
    }
}

/// The one option that is a promise: it stands here, among the files that may hold unsafe code.
impl ArrayOptions {
    /// Takes no lock, and respects none.
    ///
    /// ```
    /// // SAFETY: nobody else can open a file that has no name.
    /// let options = unsafe { ndarray_mmap::ArrayOptions::new().unlocked() };
    /// let array = options.shape(4).scratch::<f32, ndarray::Ix1>()?;
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Safety
    /// For as long as the array lives, the caller promises what the lock would have kept:
    /// - while the array can only be read, nobody changes the bytes that it maps, in this process or in another;
    /// - while it can be written, nobody else reads or writes them;
    /// - nobody makes the file shorter.
    pub unsafe fn unlocked(mut self) -> Self {
        self.locked = false;
        self
    }
}

/// Closes every array of this process on a file, as [`close_path`], and releases their locks at once, although their owners may be
/// alive. Returns how many arrays it closed.
///
/// # Safety
/// No borrow of the elements of any array on this file is used any more, in any thread: neither a reference, nor a view, nor an
/// iterator, nor a chunk that a loop still holds. Otherwise a later holder of the lock could change bytes behind a shared
/// reference, or a forgotten `&mut` could store into the later holder's bytes.
///
/// # Errors
/// As for [`close_path`]. The locks are released all the same.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, close_path_and_unlock};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("a.npy");
/// let forgotten = MmapArray::<u16, Ix1>::create(&path, 50)?;
/// // SAFETY: no borrow of the elements of `forgotten` is alive, and none is made later: access to a closed array panics.
/// unsafe { close_path_and_unlock(&path) }?;
/// MmapArray::<u16, Ix1>::open_rw(&path)?;
/// # drop(forgotten);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub unsafe fn close_path_and_unlock(path: impl AsRef<Path>) -> Result<usize> {
    let operation = "close_path_and_unlock";
    let is_on_file = on_file(path.as_ref(), operation)?;
    let closed = close_where(operation, &is_on_file);
    // SAFETY: the caller promises that no borrow of the elements is used any more.
    map::all().iter().filter(|mapping| is_on_file(mapping)).for_each(|mapping| unsafe { mapping.unlock() });
    closed
}

/// Path, locks and state of the array, views that report a closed array, and the end.
///
/// ```
/// let mut array = ndarray_mmap::MmapArray::<f32, ndarray::Ix1>::scratch(4)?;
/// assert!(array.path().is_absolute() && !array.is_closed());
/// array.try_view_mut()?[0] = 1.0; // an error, where `array[0]` would panic if the array were closed
/// assert_eq!(array.try_view()?[0], 1.0);
/// array.close()?;
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
impl<T: 'static, D, A: Access> MmapArray<T, D, A> {
    /// The path of the file, absolute and normalised as [`prepare_path`](crate::prepare_path) returns it. The file of a
    /// [scratch](MmapArray::scratch) array has no name: its path is the directory whose filesystem holds it.
    pub fn path(&self) -> &Path {
        self.handle.0.path()
    }

    /// Who keeps the borrow rules for this array's bytes.
    pub fn locking(&self) -> Locking {
        self.handle.0.locking()
    }

    /// Whether the array was closed by its [path](crate::close_path).
    pub fn is_closed(&self) -> bool {
        self.handle.0.is_closed()
    }

    /// Flushes, evicts as [`OnDrop`](crate::OnDrop) says, and closes: what `Drop` does, with its errors reported.
    ///
    /// Of an array that was closed by its path, it flushes what was stored through borrows since, and releases the lock.
    ///
    /// # Errors
    /// What the system says if the data cannot be written, [`Poisoned`](crate::ErrorKind::Poisoned) if an earlier flush failed.
    /// The array is closed all the same.
    pub fn close(self) -> Result<()> {
        self.handle.0.close_by_owner().map_err(|error| error.during("close"))
    }

    /// A view of the whole array, or an error if it was closed by its path.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn try_view(&self) -> Result<ArrayView<'_, T, D>>
    where
        D: Dimension,
    {
        self.handle.0.check_open("try_view")?;
        Ok(self.view.view())
    }

    /// A mutable view of the whole array, or an error if it was closed by its path.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn try_view_mut(&mut self) -> Result<ArrayViewMut<'_, T, D>>
    where
        D: Dimension,
        A: Writable,
    {
        self.handle.0.check_open("try_view_mut")?;
        Ok(self.view.view_mut())
    }

    /// The view, whether or not the array was closed: its memory is there for as long as its owner is.
    pub(crate) fn view_even_if_closed(&self) -> ArrayView<'_, T, D>
    where
        D: Dimension,
    {
        self.view.view()
    }

    /// The mapping under the array.
    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.handle.0
    }

    /// The layout in the file.
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn panic_closed(mapping: &Mapping) -> ! {
    panic!("the array on {:?} was closed by its path; `try_view` returns an error instead", mapping.path())
}

impl<T: 'static, D, A: Access> Deref for MmapArray<T, D, A> {
    type Target = ArrayRef<T, D>;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &ArrayRef<T, D> {
        if self.handle.0.is_closed() {
            panic_closed(&self.handle.0);
        }
        &self.view
    }
}

impl<T: 'static, D: Dimension, A: Writable> DerefMut for MmapArray<T, D, A> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut ArrayRef<T, D> {
        if self.handle.0.is_closed() {
            panic_closed(&self.handle.0);
        }
        &mut self.view
    }
}
