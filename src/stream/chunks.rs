//! Loops over chunks of rows of a mapped array. Such a loop prefetches the next chunk, and evicts finished chunks.

use super::budget::Budget;
use super::chunk_loop::ChunkLoop;
use super::stage::{row_bytes_of, row_slice, rows_of, slice_rows};
use crate::access::{Access, Writable};
use crate::array::MmapArray;
use crate::error::Result;
use crate::geometry::clamp;
use bytemuck::Pod;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension};
use std::ops::{Range, RangeBounds};
use std::sync::Arc;

impl<T: Pod, D: Dimension, A: Access> MmapArray<T, D, A> {
    /// Iterates over views of consecutive rows, each with its range of rows. Prefetches the next chunk, and evicts
    /// finished chunks, even if the loop ends early. Changed pages of a copy-on-write array stay in memory.
    ///
    /// The iterator ends early if a page has faulted. To get the error immediately, call
    /// [`try_next`](RowChunks::try_next) instead. The next flush or `close` of the array also reports the fault.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::Budget};
    ///
    /// let array = MmapArray::<f32, Ix2>::scratch((100_000, 12))?;
    /// let mut sum = 0.0;
    /// for (rows, chunk) in array.row_chunks(Budget::default()) {
    ///     assert_eq!(rows.len(), chunk.nrows());
    ///     sum += chunk.sum();
    /// }
    /// assert_eq!(sum, 0.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the array was closed by its path ([`close_path`](crate::close_path)).
    pub fn row_chunks(&self, budget: Budget) -> RowChunks<'_, T, D> {
        self.row_chunks_in(.., budget)
    }

    /// Like [`row_chunks`](Self::row_chunks), but visits only the rows of a range. The range of each chunk contains
    /// the numbers of its rows in the array.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::Budget};
    ///
    /// let array = MmapArray::<f32, Ix2>::scratch((1000, 12))?;
    /// let chunks = array.row_chunks_in(700.., Budget::chunk_rows(200));
    /// assert_eq!(chunks.map(|(rows, _)| rows).collect::<Vec<_>>(), [700..900, 900..1000]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// As for [`prefetch_rows`](Self::prefetch_rows), a range that ends after the last row is shortened, and an inverted
    /// range has no rows.
    ///
    /// # Panics
    /// As for [`row_chunks`](Self::row_chunks).
    pub fn row_chunks_in(&self, rows: impl RangeBounds<usize>, budget: Budget) -> RowChunks<'_, T, D> {
        let all = self.view();
        let rows = clamp(rows, rows_of(&all.raw_dim()));
        let rest = slice_rows(&all, &rows);
        let chunk_rows = budget.mapped_rows(row_bytes_of::<T, D>(&rest.raw_dim()));
        let first = slice_rows(&rest, &(0..rows.len().min(chunk_rows)));
        let steps = ChunkLoop::new(self.mapping(), rows, chunk_rows, &first, rest.is_standard_layout());
        RowChunks { steps, rest: Some(rest) }
    }

    /// Iterates over mutable views of consecutive rows, each with its range of rows.
    ///
    /// Write-back of a chunk starts when the loop takes the next chunk. Write-back is complete when the loop takes the
    /// second next chunk, or ends. [`flush`](Self::flush) or `close` makes the rows durable, and reports failed writes.
    /// Stores go through the mapping: in a [sparse](crate::Allocation::Sparse) file, a store on a full disk raises
    /// SIGBUS unless a [guard](crate::fault) is active.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::Budget};
    ///
    /// let mut table = MmapArray::<f32, Ix2>::scratch((100_000, 12))?;
    /// for (rows, mut chunk) in table.row_chunks_mut(Budget::default()) {
    ///     chunk.fill(rows.start as f32);
    /// }
    /// table.flush()?; // reports what could not be written
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the array was closed by its path ([`close_path`](crate::close_path)).
    pub fn row_chunks_mut(&mut self, budget: Budget) -> RowChunksMut<'_, T, D>
    where
        A: Writable,
    {
        self.row_chunks_in_mut(.., budget)
    }

    /// Like [`row_chunks_mut`](Self::row_chunks_mut), but visits only the rows of a range. The range of each chunk
    /// contains the numbers of its rows in the array.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::Budget};
    ///
    /// let mut table = MmapArray::<f32, Ix2>::scratch((1000, 12))?;
    /// for (rows, mut chunk) in table.row_chunks_in_mut(10..1000, Budget::default()) {
    ///     chunk.fill(rows.start as f32);
    /// }
    /// assert_eq!((table[[9, 0]], table[[10, 0]]), (0.0, 10.0));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// As for [`prefetch_rows`](Self::prefetch_rows), a range that ends after the last row is shortened, and an inverted
    /// range has no rows.
    ///
    /// # Panics
    /// As for [`row_chunks`](Self::row_chunks).
    pub fn row_chunks_in_mut(
        &mut self,
        rows: impl RangeBounds<usize>,
        budget: Budget,
    ) -> RowChunksMut<'_, T, D>
    where
        A: Writable,
    {
        let mapping = Arc::clone(self.mapping());
        let mut rest = self.view_mut();
        let rows = clamp(rows, rows_of(&rest.raw_dim()));
        if rest.ndim() > 0 {
            rest.slice_axis_inplace(Axis(0), row_slice(&rows));
        }
        let chunk_rows = budget.mapped_rows(row_bytes_of::<T, D>(&rest.raw_dim()));
        let is_contiguous = rest.is_standard_layout();
        let first = slice_rows(&rest.view(), &(0..rows.len().min(chunk_rows)));
        let steps = ChunkLoop::new(&mapping, rows, chunk_rows, &first, is_contiguous);
        RowChunksMut { steps, rest: Some(rest) }
    }
}

/// An iterator over chunks of rows of an array. See [`MmapArray::row_chunks`].
///
/// ```
/// use ndarray_mmap::{MmapArray, stream::Budget};
///
/// let table = MmapArray::<f32, ndarray::Ix2>::scratch((1000, 3))?;
/// let (rows, chunk) = table.row_chunks(Budget::default()).next().expect("a table with rows has a chunk");
/// assert_eq!((rows.start, rows.len()), (0, chunk.nrows()));
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Debug)]
pub struct RowChunks<'a, T, D: Dimension> {
    steps: ChunkLoop,
    rest: Option<ArrayView<'a, T, D>>,
}

impl<'a, T: Pod, D: Dimension> RowChunks<'a, T, D> {
    /// Returns the next chunk, or `None` after the last one. Unlike the iterator, returns errors of reads and writes
    /// immediately.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::Budget};
    ///
    /// let array = MmapArray::<f32, Ix2>::scratch((100_000, 12))?;
    /// let mut chunks = array.row_chunks(Budget::default());
    /// let mut sum = 0.0;
    /// while let Some((_rows, chunk)) = chunks.try_next()? {
    ///     sum += chunk.sum();
    /// }
    /// assert_eq!(sum, 0.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Fault`](crate::ErrorKind::Fault) if a page of the array has faulted ([`fault`](crate::fault));
    /// [`Poisoned`](crate::ErrorKind::Poisoned) if an earlier flush failed; [`Closed`](crate::ErrorKind::Closed).
    #[allow(clippy::type_complexity, reason = "the same as the iterator's item")]
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<(Range<usize>, ArrayView<'a, T, D>)>> {
        let Some(rows) = self.steps.next_range()? else { return Ok(None) };
        let Some(rest) = self.rest.take() else { return Ok(None) };
        let chunk = if rest.ndim() == 0 {
            rest
        } else {
            let (chunk, rest) = rest.split_at(Axis(0), rows.len());
            self.rest = Some(rest);
            chunk
        };
        self.steps.record(&chunk);
        Ok(Some((rows, chunk)))
    }
}

/// Ends early if [`try_next`](RowChunks::try_next) would return an error. The next flush, eviction or `close` of the
/// array reports the error. Panics if the array was closed by its path.
impl<'a, T: Pod, D: Dimension> Iterator for RowChunks<'a, T, D> {
    type Item = (Range<usize>, ArrayView<'a, T, D>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let step = self.try_next();
        self.steps.or_end(step)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.steps.chunks_left(), Some(self.steps.chunks_left()))
    }
}

impl<T: Pod, D: Dimension> ExactSizeIterator for RowChunks<'_, T, D> {}
impl<T: Pod, D: Dimension> std::iter::FusedIterator for RowChunks<'_, T, D> {}

/// An iterator over mutable chunks of rows of an array. See [`MmapArray::row_chunks_mut`].
///
/// ```
/// use ndarray_mmap::{MmapArray, stream::Budget};
///
/// let mut table = MmapArray::<f32, ndarray::Ix2>::scratch((1000, 3))?;
/// table.row_chunks_mut(Budget::default()).for_each(|(_, mut chunk)| chunk.fill(1.0));
/// assert_eq!(table[[999, 2]], 1.0);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Debug)]
pub struct RowChunksMut<'a, T, D: Dimension> {
    steps: ChunkLoop,
    rest: Option<ArrayViewMut<'a, T, D>>,
}

impl<'a, T: Pod, D: Dimension> RowChunksMut<'a, T, D> {
    /// Returns the next chunk, or `None` after the last one. Unlike the iterator, returns errors of reads and writes
    /// immediately.
    ///
    /// ```
    /// # use ndarray_mmap::{MmapArray, stream::Budget};
    /// let mut table = MmapArray::<f32, ndarray::Ix2>::scratch((1000, 3))?;
    /// let mut chunks = table.row_chunks_mut(Budget::default());
    /// while let Some((rows, mut chunk)) = chunks.try_next()? {
    ///     chunk.fill(rows.start as f32);
    /// }
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`RowChunks::try_next`], and [`Poisoned`](crate::ErrorKind::Poisoned) if an earlier chunk could not be
    /// written.
    #[allow(clippy::type_complexity, reason = "the same as the iterator's item")]
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<(Range<usize>, ArrayViewMut<'a, T, D>)>> {
        let Some(rows) = self.steps.next_range()? else { return Ok(None) };
        let Some(rest) = self.rest.take() else { return Ok(None) };
        let chunk = if rest.ndim() == 0 {
            rest
        } else {
            let (chunk, rest) = rest.split_at(Axis(0), rows.len());
            self.rest = Some(rest);
            chunk
        };
        self.steps.record(&chunk);
        Ok(Some((rows, chunk)))
    }
}

/// Ends early if [`try_next`](RowChunksMut::try_next) would return an error. The next flush, eviction or `close` of the
/// array reports the error. Panics if the array was closed by its path.
impl<'a, T: Pod, D: Dimension> Iterator for RowChunksMut<'a, T, D> {
    type Item = (Range<usize>, ArrayViewMut<'a, T, D>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let step = self.try_next();
        self.steps.or_end(step)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.steps.chunks_left(), Some(self.steps.chunks_left()))
    }
}

impl<T: Pod, D: Dimension> ExactSizeIterator for RowChunksMut<'_, T, D> {}
impl<T: Pod, D: Dimension> std::iter::FusedIterator for RowChunksMut<'_, T, D> {}
