//! Loops over chunks of columns of a mapped array.

use super::budget::Budget;
use super::chunk_loop::ChunkLoop;
use super::stage::row_slice;
use crate::access::Access;
use crate::array::MmapArray;
use crate::error::Result;
use bytemuck::Pod;
use ndarray::{ArrayView, Axis, Dimension};
use std::ops::Range;

impl<T: Pod, D: Dimension, A: Access> MmapArray<T, D, A> {
    /// Iterates over views of consecutive columns (axis 1), each with its range of columns. Each view has all rows.
    /// Prefetches the next chunk, and evicts finished chunks, even if the loop ends early.
    ///
    /// In C order, each row of a chunk touches at least one page of the file. So a chunk occupies at least one page of
    /// memory for each row of the array, even if `budget` is smaller. The file is read once.
    ///
    /// Like [`row_chunks`](Self::row_chunks), the iterator ends early if a page has faulted, and
    /// [`try_next`](ColumnChunks::try_next) returns the error.
    ///
    /// ```
    /// use ndarray::{Axis, Ix2};
    /// use ndarray_mmap::{MmapArray, stream::Budget};
    ///
    /// let mut table = MmapArray::<f32, Ix2>::scratch((5, 1000))?;
    /// table.row_mut(3).fill(2.0);
    /// for (columns, chunk) in table.column_chunks(Budget::default()) {
    ///     assert_eq!(chunk.shape(), [5, columns.len()]);
    ///     assert!(chunk.sum_axis(Axis(0)).iter().all(|&sum| sum == 2.0));
    /// }
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the array has fewer than two axes, or was closed by its path ([`close_path`](crate::close_path)).
    pub fn column_chunks(&self, budget: Budget) -> ColumnChunks<'_, T, D> {
        let view = self.view();
        assert!(view.ndim() >= 2, "column_chunks needs an array with at least two axes, not {}", view.ndim());
        let columns = view.len_of(Axis(1));
        let column_bytes = view.len().checked_div(columns).unwrap_or(0) * size_of::<T>();
        let chunk_columns = budget.mapped_rows(column_bytes);
        let first = slice_columns(&view, &(0..columns.min(chunk_columns)));
        let steps = ChunkLoop::new(self.mapping(), 0..columns, chunk_columns, &first, false);
        ColumnChunks { steps, view }
    }
}

/// An iterator over chunks of columns of an array. See [`MmapArray::column_chunks`].
///
/// ```
/// use ndarray_mmap::{MmapArray, stream::Budget};
///
/// let table = MmapArray::<f32, ndarray::Ix2>::scratch((1000, 3))?;
/// let chunks = table.column_chunks(Budget::chunk_rows(2));
/// assert_eq!(chunks.map(|(columns, _)| columns).collect::<Vec<_>>(), [0..2, 2..3]);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Debug)]
pub struct ColumnChunks<'a, T, D: Dimension> {
    steps: ChunkLoop,
    view: ArrayView<'a, T, D>,
}

impl<'a, T: Pod, D: Dimension> ColumnChunks<'a, T, D> {
    /// Returns the next chunk, or `None` after the last one. Unlike the iterator, returns errors of reads and writes
    /// immediately.
    ///
    /// ```
    /// # use ndarray_mmap::{MmapArray, stream::Budget};
    /// let table = MmapArray::<f32, ndarray::Ix2>::scratch((1000, 3))?;
    /// let mut chunks = table.column_chunks(Budget::default());
    /// while let Some((_columns, chunk)) = chunks.try_next()? {
    ///     assert_eq!(chunk.sum(), 0.0);
    /// }
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`RowChunks::try_next`](super::RowChunks::try_next).
    #[allow(clippy::type_complexity, reason = "the same as the iterator's item")]
    pub fn try_next(&mut self) -> Result<Option<(Range<usize>, ArrayView<'a, T, D>)>> {
        let Some(columns) = self.steps.next_range()? else { return Ok(None) };
        let chunk = slice_columns(&self.view, &columns);
        self.steps.record(&chunk);
        Ok(Some((columns, chunk)))
    }
}

/// Ends early if [`try_next`](ColumnChunks::try_next) would return an error. The next flush, eviction or `close` of the
/// array reports the error. Panics if the array was closed by its path.
impl<'a, T: Pod, D: Dimension> Iterator for ColumnChunks<'a, T, D> {
    type Item = (Range<usize>, ArrayView<'a, T, D>);

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.try_next();
        self.steps.or_end(step)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.steps.chunks_left(), Some(self.steps.chunks_left()))
    }
}

impl<T: Pod, D: Dimension> ExactSizeIterator for ColumnChunks<'_, T, D> {}
impl<T: Pod, D: Dimension> std::iter::FusedIterator for ColumnChunks<'_, T, D> {}

/// Returns a range of columns of a view with at least two axes.
fn slice_columns<'a, T, D: Dimension>(
    view: &ArrayView<'a, T, D>,
    columns: &Range<usize>,
) -> ArrayView<'a, T, D> {
    let mut view = view.clone();
    view.slice_axis_inplace(Axis(1), row_slice(columns));
    view
}
