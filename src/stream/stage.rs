//! [`Stage`]: a step of a pipeline that can produce any range of its rows.

use super::picked::Picked;
use super::reader::Reader;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::Geometry;
use crate::io::{Transfer, grow};
use crate::sys::{AlignedBuf, page_bytes};
use bytemuck::Pod;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Order, Slice, Zip};
use std::ops::Range;
use std::path::PathBuf;

/// An element type that can be streamed: every [`Pod`] type that can be sent to and shared with other threads.
///
/// ```
/// fn streams<T: ndarray_mmap::stream::Element>() {}
/// streams::<f32>();
/// streams::<[u8; 3]>();
/// ```
pub trait Element: Pod + Send + Sync {}

impl<T: Pod + Send + Sync> Element for T {}

/// The settings that all steps of a pipeline get before it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choices {
    pub(super) transfer: Transfer,
    /// The number of rows that the caller's functions get at a time, if the caller has chosen this number.
    pub(super) chunk_rows: Option<usize>,
}

/// The memory that the buffers of a pipeline need for each row, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowBytes {
    /// The bytes of a row in the buffer that needs the most bytes for a row.
    pub(super) widest: usize,
    /// The bytes of a row in all buffers together.
    pub(super) total: usize,
    /// Whether rows are interleaved in the file. In this case, loading any block reads nearly the whole file, so blocks
    /// should be as large as the budget allows.
    pub(super) scattered: bool,
}

impl RowBytes {
    /// Adds a buffer that needs `row_bytes` for each row.
    pub(super) fn and(self, row_bytes: usize) -> Self {
        Self {
            widest: self.widest.max(row_bytes),
            total: self.total.saturating_add(row_bytes),
            scattered: self.scattered,
        }
    }

    /// Returns the memory that is enough for two pipelines at the same time.
    pub(super) fn and_all(self, other: Self) -> Self {
        Self { total: self.total.saturating_add(other.total), ..self.max(other) }
    }

    /// Returns the memory that is enough for either of two pipelines, but not for both at the same time.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            widest: self.widest.max(other.widest),
            total: self.total.max(other.total),
            scattered: self.scattered || other.scattered,
        }
    }
}

/// A source of rows, or a step that computes rows from the rows of another step. The trait is sealed.
///
/// The rows of a step are an array of one element type and one number of dimensions; axis 0 counts the rows.
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

    /// The dimensions of the array that contains all rows.
    type Dim: Dimension;

    /// The buffers that one thread needs to load rows. The same buffers can be used with any step of the same type.
    #[doc(hidden)]
    type State: Default + Send + 'static;

    /// Keeps the selected indices of an axis. Called before [`prepare`](Self::prepare), with an axis that exists.
    #[doc(hidden)]
    fn pick(&mut self, axis: Axis, picked: &Picked);

    /// Returns the path of the first file that is read, if there is one.
    #[doc(hidden)]
    fn path(&self) -> Option<PathBuf>;

    /// Returns how many bytes the lists of selected rows need.
    #[doc(hidden)]
    fn held_bytes(&self) -> usize;

    /// Opens the source. Called once, before rows are loaded.
    #[doc(hidden)]
    fn prepare(&mut self, choices: Choices) -> Result<()>;

    /// Returns the shape of the array that contains all rows.
    #[doc(hidden)]
    fn shape(&self) -> Self::Dim;

    /// Returns how much memory the state needs for each row.
    #[doc(hidden)]
    fn row_bytes(&self) -> RowBytes;

    /// Returns whether most of the source is resident in the page cache, or in ordinary memory.
    #[doc(hidden)]
    fn is_warm(&self) -> bool;

    /// Returns whether loading rows calls a function of the caller.
    #[doc(hidden)]
    fn calls_functions(&self) -> bool {
        false
    }

    /// Returns true if it is known, before any block is loaded, that [`view`](Self::view) returns blocks in standard
    /// layout.
    #[doc(hidden)]
    fn is_standard_layout(&self) -> bool {
        true
    }

    /// Returns the first part of a range of rows that may have bytes other than zero. If all rows of the range are
    /// zero, returns an empty range.
    #[doc(hidden)]
    fn next_data(&self, rows: Range<usize>) -> Result<Range<usize>> {
        Ok(rows)
    }

    /// Loads a block of rows into the state.
    #[doc(hidden)]
    fn load(&self, state: &mut Self::State, rows: Range<usize>) -> Result<()>;

    /// Returns the block of rows that was loaded last. `rows` must be the same as for [`load`](Self::load).
    #[doc(hidden)]
    fn view<'s>(&'s self, state: &'s Self::State, rows: Range<usize>)
    -> ArrayView<'s, Self::Item, Self::Dim>;

    /// Calls `reduce` with a block of rows. The block is read from the mapped pages of its file if that is safe and
    /// faster, and is otherwise loaded into the state.
    #[doc(hidden)]
    fn reduce(
        &self,
        state: &mut Self::State,
        rows: Range<usize>,
        reduce: &mut Reduction<'_, Self::Item, Self::Dim>,
    ) -> Result<()> {
        self.load(state, rows.clone())?;
        reduce(&self.view(state, rows));
        Ok(())
    }

    /// Writes a block of rows to `out`, which has the block's shape.
    #[doc(hidden)]
    fn fill(
        &self,
        state: &mut Self::State,
        rows: Range<usize>,
        out: ArrayViewMut<'_, Self::Item, Self::Dim>,
    ) -> Result<()>;

    /// Returns the source if it is contiguous and the pipeline has no other step. The source can then be copied byte
    /// for byte.
    #[doc(hidden)]
    fn whole(&self) -> Option<Whole<'_>> {
        None
    }

    /// Reverses the order of the axes, unless that would change elements. Returns whether the order was reversed.
    #[doc(hidden)]
    fn reverse_axes(&mut self) -> bool {
        false
    }

    /// Calls `note` for every part of a file that the stream reads, so that the caller can compare this part with the
    /// written parts.
    #[doc(hidden)]
    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>));
}

pub(super) mod sealed {
    /// Implemented only by the steps of this crate.
    pub trait Sealed {}
}

/// A function that adds a block of rows to a partial result.
pub(super) type Reduction<'f, T, D> = dyn FnMut(&ArrayView<'_, T, D>) + 'f;

/// A contiguous source.
#[derive(Debug)]
pub struct Whole<'s> {
    pub(super) bytes: &'s [u8],
    /// The file that contains the bytes, and their range in the file.
    pub(super) in_file: Option<(&'s Reader, Range<u64>)>,
}

/// Returns the number of rows of a shape. An array of zero dimensions is one row.
pub(super) fn rows_of<D: Dimension>(shape: &D) -> usize {
    shape.slice().first().copied().unwrap_or(1)
}

/// Returns the shape with another number of rows.
pub(super) fn with_rows<D: Dimension>(shape: &D, rows: usize) -> D {
    let mut shape = shape.clone();
    if let Some(first) = shape.slice_mut().first_mut() {
        *first = rows;
    }
    shape
}

/// Returns an error if an array of this shape does not fit the address space, or if its elements have an alignment that
/// the buffers of a stream do not have.
pub(super) fn check_elements<T, D: Dimension>(shape: &D) -> Result<()> {
    if align_of::<T>() > page_bytes() {
        let expected = format!("elements aligned to at most one page, {} bytes", page_bytes());
        let found = format!("{}, which is aligned to {} bytes", std::any::type_name::<T>(), align_of::<T>());
        return Err(Error::new(ErrorKind::Unaligned, "stream", expected, found)
            .with_remedy("use an element type with a smaller alignment"));
    }
    Geometry::new(shape.slice(), Order::RowMajor, size_of::<T>()).map(drop)
}

/// Returns the bytes of one row of elements `T`.
pub(super) fn row_bytes_of<T, D: Dimension>(shape: &D) -> usize {
    shape.slice().iter().skip(1).product::<usize>() * size_of::<T>()
}

/// Returns a range of rows as a slice of ndarray.
pub(super) fn row_slice(rows: &Range<usize>) -> Slice {
    Slice::new(rows.start as isize, Some(rows.end as isize), 1) // the length of an axis fits `isize`
}

/// Returns a range of rows of a view.
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

/// The size in bytes above which elements are copied in place. A copy by value would need memory on the stack, perhaps
/// several times in an unoptimised build.
const LARGE_ELEMENT_BYTES: usize = 256;

/// Copies every element of `from` to `to`, which has the same shape.
pub(super) fn assign<T: Pod, D: Dimension>(from: &ArrayView<'_, T, D>, mut to: ArrayViewMut<'_, T, D>) {
    if let (Some(from), Some(to)) = (from.as_slice(), to.as_slice_mut()) {
        to.copy_from_slice(from);
    } else if size_of::<T>() <= LARGE_ELEMENT_BYTES {
        to.assign(from);
    } else {
        let copy =
            |to: &mut T, from: &T| bytemuck::bytes_of_mut(to).copy_from_slice(bytemuck::bytes_of(from));
        Zip::from(to).and(from).for_each(copy);
    }
}

/// Sets every element of `block` to zero.
pub(super) fn clear<T: Pod, D: Dimension>(block: &mut ArrayViewMut<'_, T, D>) {
    match block.as_slice_memory_order_mut() {
        Some(items) => bytemuck::cast_slice_mut::<T, u8>(items).fill(0),
        None => block.map_inplace(|item| bytemuck::bytes_of_mut(item).fill(0)),
    }
}

/// Returns `count` elements of a buffer, starting at byte `lead`, which must be aligned for them.
pub(super) fn items<T: Pod>(buffer: &AlignedBuf, lead: usize, count: usize) -> &[T] {
    match count.checked_mul(size_of::<T>()) {
        Some(0) => without_bytes(count),
        len => bytemuck::cast_slice(&buffer.bytes()[lead..][..len.unwrap_or(usize::MAX)]),
    }
}

/// Returns `count` mutable elements of a buffer, starting at byte `lead`, which must be aligned for them.
pub(super) fn items_mut<T: Pod>(buffer: &mut AlignedBuf, lead: usize, count: usize) -> &mut [T] {
    match count.checked_mul(size_of::<T>()) {
        Some(0) => without_bytes(count),
        len => bytemuck::cast_slice_mut(&mut buffer.bytes_mut()[lead..][..len.unwrap_or(usize::MAX)]),
    }
}

/// Returns a slice that needs no memory, because it is empty or because the size of its element type is zero. The
/// leaked vector has allocated no memory.
fn without_bytes<'b, T: Pod>(count: usize) -> &'b mut [T] {
    debug_assert!(count == 0 || size_of::<T>() == 0);
    let mut elements = Vec::new();
    elements.resize_with(count, T::zeroed);
    elements.leak()
}

/// A buffer that holds a block of rows in standard layout.
#[derive(Debug, Default)]
pub(super) struct BlockBuffer(Option<AlignedBuf>);

impl BlockBuffer {
    /// Returns the buffer as an array of this shape, for writing.
    pub(super) fn view_mut<T: Pod, D: Dimension>(&mut self, shape: D) -> Result<ArrayViewMut<'_, T, D>> {
        let count = shape.size();
        let buffer = grow(&mut self.0, count.saturating_mul(size_of::<T>()))?;
        Ok(view_of_mut(items_mut(buffer, 0, count), shape))
    }

    /// Returns the array of this shape that was written to the buffer.
    pub(super) fn view<T: Pod, D: Dimension>(&self, shape: D) -> ArrayView<'_, T, D> {
        let held = self.0.as_ref().map_or(&[][..], |buffer| items(buffer, 0, shape.size()));
        ArrayView::from_shape(shape, held).expect("a block is viewed in the shape that it was filled in")
    }
}

/// Returns elements as an array in standard layout.
pub(super) fn view_of_mut<T, D: Dimension>(items: &mut [T], shape: D) -> ArrayViewMut<'_, T, D> {
    ArrayViewMut::from_shape(shape, items).expect("as many items as the shape has")
}
