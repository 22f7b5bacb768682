//! Loops over chunks of rows of a mapped array. Such a loop prefetches the next chunk, and evicts finished chunks.

use super::budget::Budget;
use super::stage::{row_bytes_of, rows_of, slice_rows};
use crate::access::{Access, AccessMode, Writable};
use crate::array::MmapArray;
use crate::error::{ErrorKind, Result};
use crate::map::{Mapping, Patience};
use bytemuck::Pod;
use ndarray::{ArrayRef, ArrayView, ArrayViewMut, Axis, Dimension};
use std::ops::Range;
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
    /// If the array was closed by its path.
    pub fn row_chunks(&self, budget: Budget) -> RowChunks<'_, T, D> {
        let view = self.view();
        let rows = rows_of(&view.raw_dim());
        let chunk_rows = budget.mapped_rows(row_bytes_of::<T, D>(&view.raw_dim()));
        RowChunks { history: ChunkHistory::new(self.mapping()), view, next: 0, rows, chunk_rows }
    }

    /// Iterates over mutable views of consecutive rows, each with its range of rows.
    ///
    /// Write-back of a chunk starts when the loop takes the next chunk, and is complete when the loop takes the chunk
    /// after that, or ends. [`flush`](Self::flush) or `close` makes the rows durable, and reports failed writes. Stores
    /// go through the mapping: in a [sparse](crate::Allocation::Sparse) file, a store on a full disk raises SIGBUS
    /// unless a [guard](crate::fault) is active.
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
    /// If the array was closed by its path.
    pub fn row_chunks_mut(&mut self, budget: Budget) -> RowChunksMut<'_, T, D>
    where
        A: Writable,
    {
        let history = ChunkHistory::new(self.mapping());
        let rest = self.view_mut();
        let rows = rows_of(&rest.raw_dim());
        let chunk_rows = budget.mapped_rows(row_bytes_of::<T, D>(&rest.raw_dim()));
        RowChunksMut { history, rest: Some(rest), next: 0, rows, chunk_rows }
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
    history: ChunkHistory,
    view: ArrayView<'a, T, D>,
    next: usize,
    rows: usize,
    chunk_rows: usize,
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
    pub fn try_next(&mut self) -> Result<Option<(Range<usize>, ArrayView<'a, T, D>)>> {
        self.history.advance().map_err(|error| error.during("try_next"))?;
        if self.next >= self.rows {
            return Ok(None);
        }
        let rows = self.next..self.rows.min(self.next.saturating_add(self.chunk_rows));
        self.next = rows.end;
        let chunk = slice_rows(&self.view, &rows);
        self.history.record(&chunk);
        Ok(Some((rows, chunk)))
    }
}

/// Ends early if [`try_next`](RowChunks::try_next) would return an error. The next flush, eviction or `close` of the array
/// reports the error. Panics if the array was closed by its path.
impl<'a, T: Pod, D: Dimension> Iterator for RowChunks<'a, T, D> {
    type Item = (Range<usize>, ArrayView<'a, T, D>);

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.try_next();
        or_end_loop(step, &mut self.next, self.rows)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.rows - self.next).div_ceil(self.chunk_rows);
        (left, Some(left))
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
    history: ChunkHistory,
    rest: Option<ArrayViewMut<'a, T, D>>,
    next: usize,
    rows: usize,
    chunk_rows: usize,
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
    pub fn try_next(&mut self) -> Result<Option<(Range<usize>, ArrayViewMut<'a, T, D>)>> {
        self.history.advance().map_err(|error| error.during("try_next"))?;
        let Some(rest) = self.rest.take_if(|_| self.next < self.rows) else { return Ok(None) };
        let rows = self.next..self.rows.min(self.next.saturating_add(self.chunk_rows));
        self.next = rows.end;
        let chunk = if rest.ndim() == 0 {
            rest
        } else {
            let (chunk, rest) = rest.split_at(Axis(0), rows.len());
            self.rest = Some(rest);
            chunk
        };
        self.history.record(&chunk);
        Ok(Some((rows, chunk)))
    }
}

/// Ends early if [`try_next`](RowChunksMut::try_next) would return an error. The next flush, eviction or `close` of the
/// array reports the error. Panics if the array was closed by its path.
impl<'a, T: Pod, D: Dimension> Iterator for RowChunksMut<'a, T, D> {
    type Item = (Range<usize>, ArrayViewMut<'a, T, D>);

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.try_next();
        or_end_loop(step, &mut self.next, self.rows)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.rows - self.next).div_ceil(self.chunk_rows);
        (left, Some(left))
    }
}

impl<T: Pod, D: Dimension> ExactSizeIterator for RowChunksMut<'_, T, D> {}
impl<T: Pod, D: Dimension> std::iter::FusedIterator for RowChunksMut<'_, T, D> {}

/// The maximum number of bytes that the kernel may have read ahead after the last chunk.
const READ_AHEAD_BYTES: u64 = 32 << 20;

/// Returns the next chunk of a loop that cannot return errors. After an error, the loop ends: every later call returns
/// `None`.
fn or_end_loop<C>(step: Result<Option<C>>, next: &mut usize, rows: usize) -> Option<C> {
    step.unwrap_or_else(|error| match error.kind() {
        ErrorKind::Closed => panic!("{error}"),
        _ => {
            *next = rows;
            None
        }
    })
}

/// The parts of the file that a loop over chunks has used: the current chunk, the previous chunk, whose write-back has
/// started, and the range of all chunks so far.
#[derive(Debug)]
struct ChunkHistory {
    mapping: Arc<Mapping>,
    in_use: Option<Range<u64>>,
    written_back: Option<Range<u64>>,
    touched: Option<Range<u64>>,
}

impl ChunkHistory {
    fn new(mapping: &Arc<Mapping>) -> Self {
        let mapping = Arc::clone(mapping);
        if !mapping.file_bytes().is_empty() {
            mapping.expect_sequential();
        }
        Self { mapping, in_use: None, written_back: None, touched: None }
    }

    /// Records the chunk that the loop uses from now on.
    fn record<T, D: Dimension>(&mut self, chunk: &ArrayRef<T, D>) {
        if chunk.is_empty() || size_of::<T>() == 0 {
            return;
        }
        let bytes = self.mapping.place_of(chunk);
        let touched = self.touched.get_or_insert(bytes.clone());
        *touched = touched.start.min(bytes.start)..touched.end.max(bytes.end);
        self.in_use = Some(bytes);
    }

    /// Evicts the previous chunk, and starts the write-back of the chunk that the loop has just finished. Returns an
    /// error if the mapping has faulted or a sync has failed: then the loop may have read zeros instead of the file's
    /// bytes, or its stores may be lost.
    fn advance(&mut self) -> Result<()> {
        let lease = self.mapping.lease("try_next")?;
        if let Some(bytes) = self.written_back.take() {
            self.mapping.evict(std::iter::once(bytes), Patience::None)?;
        }
        self.written_back = self.in_use.take();
        match &self.written_back {
            Some(bytes) if self.mapping.access() == AccessMode::ReadWrite => {
                self.mapping.start_write_back(bytes)?;
            }
            _ => {}
        }
        lease.check_usable()
    }
}

impl Drop for ChunkHistory {
    fn drop(&mut self) {
        let (mapping, Some(touched)) = (&self.mapping, self.touched.take()) else { return };
        // Errors are ignored here, because the mapping records a failure and reports it later.
        let Ok(_lease) = mapping.lease("try_next") else { return };
        let end = touched.end.saturating_add(READ_AHEAD_BYTES).min(mapping.file_bytes().end);
        let _ = mapping.evict(std::iter::once(touched.start..end), Patience::Short);
    }
}
