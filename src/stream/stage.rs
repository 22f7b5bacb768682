//! [`Stage`]: a step of a pipeline that can give any range of its rows.

use super::probe::Transfer;
use super::reader::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Geometry;
use crate::sys::AlignedBuf;
use bytemuck::Pod;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Order, Slice};
use std::ops::Range;

/// What can stream: every [`Pod`] type that may go from thread to thread.
///
/// ```
/// fn streams<T: ndarray_mmap::stream::Element>() {}
/// streams::<f32>();
/// streams::<[u8; 3]>();
/// ```
pub trait Element: Pod + Send + Sync {}

impl<T: Pod + Send + Sync> Element for T {}

/// The choices that a pipeline makes once for all of its steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choices {
    pub(super) transfer: Transfer,
    /// How many rows the caller's functions see at once.
    pub(super) chunk_rows: Option<usize>,
}

/// What a row takes, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowBytes {
    pub(super) widest: usize,
    pub(super) total: usize,
    /// Rows lie scattered over the file, so that blocks should be as large as the budget allows.
    pub(super) scattered: bool,
}

impl RowBytes {
    /// With one more buffer on the way.
    pub(super) fn and(self, row_bytes: usize) -> Self {
        Self {
            widest: self.widest.max(row_bytes),
            total: self.total.saturating_add(row_bytes),
            scattered: self.scattered,
        }
    }

    /// What is enough for either.
    pub(super) fn widest_of(self, other: Self) -> Self {
        Self {
            widest: self.widest.max(other.widest),
            total: self.total.max(other.total),
            scattered: self.scattered || other.scattered,
        }
    }
}

/// A source of rows, or a step that makes rows of another step's rows. Sealed.
///
/// Every step has elements of one type and arrays of one number of dimensions; axis 0 is the rows.
///
/// ```
/// use ndarray_mmap::{MmapArray, Result, stream::{Stage, Stream}};
///
/// fn count_rows<S: Stage>(stream: Stream<'_, S>) -> Result<usize> {
///     stream.fold(0, |rows, chunk| rows + chunk.shape().first().copied().unwrap_or(1))
/// }
/// let table = MmapArray::<f32, ndarray::Ix2>::scratch((1000, 3))?;
/// assert_eq!(count_rows(Stream::from(&table).rows(..10).cast::<f64>())?, 10);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub trait Stage: Sized + Send + Sync + sealed::Sealed {
    /// The element type of the rows.
    type Item: Element;

    /// The dimensions of the rows stacked along axis 0.
    type Dim: Dimension;

    /// What one thread needs to get rows. It knows nothing of this step in particular.
    #[doc(hidden)]
    type State: Default + Send + 'static;

    /// Says what is wrong with what was asked for, or opens what is to be read. Called once, before anything else.
    #[doc(hidden)]
    fn prepare(&mut self, choices: Choices) -> Result<()>;

    /// The whole shape.
    #[doc(hidden)]
    fn shape(&self) -> Self::Dim;

    /// What a row takes in the state.
    #[doc(hidden)]
    fn row_bytes(&self) -> RowBytes;

    /// Whether the source lies in the page cache, or in memory anyway.
    #[doc(hidden)]
    fn is_warm(&self) -> bool;

    /// Gets a block of rows into the state.
    #[doc(hidden)]
    fn load(&self, state: &mut Self::State, rows: Range<usize>) -> Result<()>;

    /// The block that was loaded last, which was this one.
    #[doc(hidden)]
    fn view<'s>(&'s self, state: &'s Self::State, rows: Range<usize>)
    -> ArrayView<'s, Self::Item, Self::Dim>;

    /// Puts a block of rows into `out`, which has its shape.
    #[doc(hidden)]
    fn fill(
        &self,
        state: &mut Self::State,
        rows: Range<usize>,
        out: ArrayViewMut<'_, Self::Item, Self::Dim>,
    ) -> Result<()>;

    /// The source itself, if this is all of one that lies in one piece, to be copied byte for byte.
    #[doc(hidden)]
    fn whole(&self) -> Option<Whole<'_>> {
        None
    }

    /// Turns the order of the axes round, where that makes no difference to what is done; `false` where it would.
    #[doc(hidden)]
    fn reverse_axes(&mut self) -> bool {
        false
    }

    /// Every part of a file that is read, to be compared with what is written.
    #[doc(hidden)]
    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>));
}

pub(super) mod sealed {
    /// Only this crate's steps know what a block is.
    pub trait Sealed {}
}

/// A source in one piece.
#[derive(Debug)]
pub struct Whole<'s> {
    pub(super) bytes: &'s [u8],
    /// The file that the bytes lie in, and where.
    pub(super) in_file: Option<(&'s Reader, Range<u64>)>,
}

/// The number of rows of a shape. An array of zero dimensions is one row.
pub(super) fn rows_of<D: Dimension>(shape: &D) -> usize {
    shape.slice().first().copied().unwrap_or(1)
}

/// The same rows, another number of them.
pub(super) fn with_rows<D: Dimension>(shape: &D, rows: usize) -> D {
    let mut shape = shape.clone();
    if let Some(first) = shape.slice_mut().first_mut() {
        *first = rows;
    }
    shape
}

/// An error for an array that no address space could hold: blocks of its rows would not be what they seem, either.
pub(super) fn check_size<T, D: Dimension>(shape: &D) -> Result<()> {
    Geometry::new(shape.slice(), Order::RowMajor, size_of::<T>())
        .map(drop)
        .map_err(|error| error.during("stream"))
}

/// The bytes of one row of elements `T`.
pub(super) fn row_bytes_of<T, D: Dimension>(shape: &D) -> usize {
    shape.slice().iter().skip(1).product::<usize>() * size_of::<T>()
}

/// A range of rows as ndarray's slice.
pub(super) fn row_slice(rows: &Range<usize>) -> Slice {
    Slice::new(rows.start as isize, Some(rows.end as isize), 1) // lengths of arrays fit isize
}

/// Some rows of a view.
pub(super) fn slice_rows<'a, T, D: Dimension>(
    view: &ArrayView<'a, T, D>,
    rows: &Range<usize>,
) -> ArrayView<'a, T, D> {
    let mut view = view.clone();
    if view.ndim() > 0 {
        view.slice_axis_inplace(Axis(0), row_slice(rows));
    }
    view
}

/// The elements of a buffer from byte `lead` on, which is aligned for them.
pub(super) fn items<T: Pod>(buffer: &AlignedBuf, lead: usize, count: usize) -> &[T] {
    let len = count * size_of::<T>();
    bytemuck::cast_slice(&buffer.bytes()[lead..lead + len])
}

/// The same, for writing.
pub(super) fn items_mut<T: Pod>(buffer: &mut AlignedBuf, lead: usize, count: usize) -> &mut [T] {
    let len = count * size_of::<T>();
    bytemuck::cast_slice_mut(&mut buffer.bytes_mut()[lead..lead + len])
}

/// A buffer for a block of rows between two steps.
#[derive(Debug, Default)]
pub(super) struct BlockBuffer(Option<AlignedBuf>);

impl BlockBuffer {
    /// Room for an array of this shape.
    pub(super) fn view_mut<T: Pod, D: Dimension>(&mut self, shape: D) -> Result<ArrayViewMut<'_, T, D>> {
        let count = shape.size();
        let buffer = grow(&mut self.0, count * size_of::<T>())?;
        Ok(view_of_mut(items_mut(buffer, 0, count), shape))
    }

    /// The array of this shape that was put here.
    pub(super) fn view<T: Pod, D: Dimension>(&self, shape: D) -> ArrayView<'_, T, D> {
        let held = self.0.as_ref().map_or(&[][..], |buffer| items(buffer, 0, shape.size()));
        ArrayView::from_shape(shape, held).expect("a block is viewed in the shape that it was filled in")
    }
}

/// Items one behind the other as an array in C order.
pub(super) fn view_of_mut<T, D: Dimension>(items: &mut [T], shape: D) -> ArrayViewMut<'_, T, D> {
    ArrayViewMut::from_shape(shape, items).expect("as many items as the shape has")
}

/// A buffer of at least this size, or what the system says.
pub(super) fn grow(buffer: &mut Option<AlignedBuf>, len: usize) -> Result<&mut AlignedBuf> {
    AlignedBuf::grow(buffer, len).map_err(no_memory(len))
}

pub(super) fn no_memory(len: usize) -> impl FnOnce(std::io::Error) -> Error {
    move |error| {
        Error::new(ErrorKind::SizeOverflow, "stream", format!("{len} bytes of memory"), error.to_string())
            .or_else_try("a smaller `Budget`")
    }
}
