//! [`MmapArray`]: the type itself, and its conversion to an ndarray.
#![allow(unsafe_code)]

mod any;
mod arithmetic;
mod by_path;
mod by_view;
mod cache;
mod constructors;
#[cfg(test)]
pub(crate) mod injected;
mod options;
mod source;
mod traits;
mod unpublished;

pub use self::any::{AnyArray, AnyElement};
pub use self::by_path::{Backing, close_path, close_under, closed_arrays, open_arrays};
use self::by_path::{close_where, on_file};
pub(crate) use self::by_view::Placed;
pub use self::by_view::{backing, evict_view, flush_view, is_mmap_backed};
pub(crate) use self::source::{create_unpublished, publish};
use self::unpublished::Unpublished;

use crate::access::{Access, ReadOnly, ReadWrite, Writable};
use crate::error::Result;
use crate::file::{ArrayOptions, FileName, Locking, dimensions, unaligned};
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
/// An `MmapArray` dereferences to [`ndarray::ArrayRef`], so every function that reads an ndarray accepts it. If `A` is
/// [`Writable`], every function that writes an ndarray also accepts it. `A` is the access mode of the file:
/// [`ReadOnly`], [`ReadWrite`] or [`CopyOnWrite`](crate::CopyOnWrite). Dropping the array flushes, evicts and closes
/// it. [`close`](Self::close) does the same, and returns errors.
///
/// # Panics
/// Accessing the elements of an array that was closed by its [path](crate::close_path) panics. [`try_view`](Self::try_view)
/// returns an error instead.
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
    // 1. `view` has no elements, or lies within the memory of `handle`'s mapping, which stays at its address as long as
    //    `handle` lives;
    // 2. a mutable borrow of `view` exists only if `A: Writable`;
    // 3. `geometry` is the layout in the file: changing the layout of `view` (`swap_axes`, ..) does not change `geometry`.
    view: ArrayViewMut<'static, T, D>,
    handle: Handle,
    geometry: Geometry,
    access: PhantomData<A>,
}

/// The owner of a mapping. Dropping it closes the mapping.
#[derive(Debug)]
struct Handle {
    mapping: Arc<Mapping>,
    /// Whether the owner has closed the mapping. After that, another process can have the lock.
    is_closed: bool,
    /// The file, if it gets its name when the array is closed.
    unpublished: Option<Unpublished>,
}

impl Handle {
    /// Gives the file its name, if the file does not have its name yet.
    fn publish(&mut self) -> Result<()> {
        self.unpublished.take().map_or(Ok(()), |unpublished| unpublished.publish(&self.mapping))
    }

    /// Closes the mapping at the first call, and gives its file a pending name. Later calls do nothing.
    fn close(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_closed, true) {
            return Ok(());
        }
        let closed = self.mapping.close_by_owner();
        self.mapping.unregister();
        closed.and_then(|()| self.publish())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // If the file does not have its name yet, it is incomplete, and is removed.
        if self.unpublished.take().is_some() {
            self.mapping.settle_name(FileName::Never);
        }
        // `Drop` cannot return an error. `MmapArray::close` does.
        let _ = self.close();
    }
}

impl<T: Pod, D: Dimension> MmapArray<T, D, ReadWrite> {
    /// Turns a finished array into a read-only array without closing it. Other readers can open the file from then on.
    ///
    /// The array is flushed first. A file that gets its name [on close](ArrayOptions::publish_on_close) gets its name now.
    ///
    /// # Errors
    /// The system's error if the data cannot be flushed, if the protection of the pages or the lock cannot be changed, or
    /// if the file cannot get its name. [`NameLost`](crate::ErrorKind::NameLost) if the file has lost its name. The array
    /// is closed after such an error. [`Closed`](crate::ErrorKind::Closed) if the array was closed
    /// by its path before.
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
    pub fn into_read_only(mut self) -> Result<MmapArray<T, D, ReadOnly>> {
        self.handle.mapping.make_read_only().map_err(|error| error.during("into_read_only"))?;
        self.handle.publish().map_err(|error| error.during("into_read_only"))?;
        let Self { view, handle, geometry, .. } = self;
        Ok(MmapArray { view, handle, geometry, access: PhantomData })
    }
}

impl<T: Pod, D: Dimension, A: Access> MmapArray<T, D, A> {
    /// Creates an array on a mapping of `geometry.total_bytes()` bytes with the access mode `A`.
    fn assemble(mapping: Arc<Mapping>, geometry: Geometry) -> Result<Self> {
        let handle = Handle { mapping, is_closed: false, unpublished: None };
        let mapping = &handle.mapping;
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
        // - a contiguous array of this shape has `total_bytes` bytes, and all of them are mapped (the invariants of the
        //   geometry and of the mapping). `handle`, which is stored together with the view, keeps the mapping alive. If
        //   there are no bytes, there is no element to read;
        // - `T` is `Pod`, so any bytes are a valid `T`;
        // - the product of the lengths fits `isize` (the geometry's invariant);
        // - no other reference to this memory exists: each mapping is made for one array. If the memory is not writable, no
        //   mutable borrow of the view is created (invariant 2).
        let view = unsafe { ArrayViewMut::from_shape_ptr(shape, first) };
        Ok(Self { view, handle, geometry, access: PhantomData })
    }
}

/// The only unsafe option. It is in this file because only a few files may contain unsafe code.
impl ArrayOptions {
    /// Makes the array take no lock, and ignore the locks of other arrays.
    ///
    /// ```
    /// // SAFETY: nobody else can open a file that has no name.
    /// let options = unsafe { ndarray_mmap::ArrayOptions::new().unlocked() };
    /// let array = options.shape(4).scratch::<f32, ndarray::Ix1>()?;
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Safety
    /// While the array lives, the caller guarantees what the lock would have guaranteed:
    /// - if the array is read-only, no other code changes the bytes that it maps, in this process or in another one;
    /// - if the array is writable, no other code reads or writes these bytes;
    /// - nobody truncates the file.
    pub unsafe fn unlocked(mut self) -> Self {
        self.locked = false;
        self
    }
}

/// Closes every array of this process on a file, as [`close_path`] does, and releases their locks immediately, although
/// their owners may be alive. Returns how many arrays it closed.
///
/// # Safety
/// No borrow of the elements of any array on this file is used any more, in any thread: no reference, view or iterator, and
/// no chunk of a loop. Otherwise a later holder of the lock could change bytes behind a shared reference, or a forgotten
/// `&mut` could store into the later holder's bytes.
///
/// # Errors
/// As for [`close_path`]. The locks are released even if there is an error.
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

/// Methods for the path, the lock and the state of an array, for views of an array that may be closed, and for closing
/// it.
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
    /// Returns the absolute path of the file, normalised by [`prepare_path`](crate::prepare_path). The file of a
    /// [scratch](MmapArray::scratch) array has no name, so for it this method returns the directory in which the file
    /// was created.
    pub fn path(&self) -> &Path {
        self.handle.mapping.path()
    }

    /// Returns who enforces the borrow rules for this array's bytes.
    pub fn locking(&self) -> Locking {
        self.handle.mapping.locking()
    }

    /// Returns whether the array was closed by its [path](crate::close_path).
    pub fn is_closed(&self) -> bool {
        self.handle.mapping.is_closed()
    }

    /// Flushes the array, evicts it if its [`OnDrop`](crate::OnDrop) asks for it, and closes it. `Drop` does the same
    /// without returning errors.
    ///
    /// If the array was closed by its path before, `close` flushes the stores that were made through borrows since
    /// then, and releases the lock.
    ///
    /// If the options of `create` set [`publish_on_close`](ArrayOptions::publish_on_close), `close` gives the file its name.
    ///
    /// # Errors
    /// - The system's error if the data cannot be written, or [`Poisoned`](crate::ErrorKind::Poisoned) if an earlier flush
    ///   failed.
    /// - [`NameLost`](crate::ErrorKind::NameLost) if the array is writable and every name of its file was deleted or given
    ///   to another file, so that nobody can open what was stored. The elements are flushed before.
    /// - [`Closed`](crate::ErrorKind::Closed) if the file would have got its name, but the array was closed by its path.
    ///   [`AlreadyExists`](crate::ErrorKind::AlreadyExists) and the errors of `create` if the file cannot get its name.
    ///
    /// The array is closed even if there is an error. After an error, a file that would have got its name is removed.
    pub fn close(mut self) -> Result<()> {
        self.handle.close().map_err(|error| error.during("close"))
    }

    /// Returns a view of the whole array, or an error if it was closed by its path.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn try_view(&self) -> Result<ArrayView<'_, T, D>>
    where
        D: Dimension,
    {
        self.handle.mapping.check_open("try_view")?;
        Ok(self.view.view())
    }

    /// Returns a mutable view of the whole array, or an error if it was closed by its path.
    ///
    /// # Errors
    /// [`Closed`](crate::ErrorKind::Closed).
    pub fn try_view_mut(&mut self) -> Result<ArrayViewMut<'_, T, D>>
    where
        D: Dimension,
        A: Writable,
    {
        self.handle.mapping.check_open("try_view_mut")?;
        Ok(self.view.view_mut())
    }

    /// Returns the view even if the array was closed by its path: the memory stays mapped as long as the owner lives.
    pub(crate) fn view_even_if_closed(&self) -> ArrayView<'_, T, D>
    where
        D: Dimension,
    {
        self.view.view()
    }

    /// Returns the mapping of the array.
    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.handle.mapping
    }

    /// Returns the layout of the array in its file.
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
        if self.handle.mapping.is_closed() {
            panic_closed(&self.handle.mapping);
        }
        &self.view
    }
}

impl<T: 'static, D: Dimension, A: Writable> DerefMut for MmapArray<T, D, A> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut ArrayRef<T, D> {
        if self.handle.mapping.is_closed() {
            panic_closed(&self.handle.mapping);
        }
        &mut self.view
    }
}
