//! Loops over chunks of rows of a mapped array. Such a loop prefetches the next chunk, and evicts finished chunks.

use super::budget::Budget;
use super::stage::{row_bytes_of, rows_of, slice_rows};
use crate::access::{Access, Writable};
use crate::array::MmapArray;
use crate::error::{ErrorKind, Result};
use crate::geometry::ByteRuns;
use crate::map::Mapping;
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
    /// If the array was closed by its path ([`close_path`](crate::close_path)).
    pub fn row_chunks(&self, budget: Budget) -> RowChunks<'_, T, D> {
        let view = self.view();
        let rows = rows_of(&view.raw_dim());
        let chunk_rows = budget.mapped_rows(row_bytes_of::<T, D>(&view.raw_dim()));
        RowChunks {
            history: ChunkHistory::new(self.mapping(), view.is_standard_layout()),
            view,
            next: 0,
            rows,
            chunk_rows,
        }
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
        let mapping = Arc::clone(self.mapping());
        let rest = self.view_mut();
        let history = ChunkHistory::new(&mapping, rest.is_standard_layout());
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

/// Ends early if [`try_next`](RowChunks::try_next) would return an error. The next flush, eviction or `close` of the
/// array reports the error. Panics if the array was closed by its path.
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

/// If a loop has used fewer bytes than this since its last eviction, nothing is evicted yet.
const EVICTED_BYTES: usize = 64 << 10;

/// The mapping that a loop visits, and the chunks that the loop has used since its last eviction.
#[derive(Debug)]
struct ChunkHistory {
    mapping: Arc<Mapping>,
    /// Whether chunks of rows are contiguous.
    is_row_major: bool,
    /// The bytes of the chunks, relative to the start of the mapping's data.
    used: Option<ByteRuns>,
}

impl ChunkHistory {
    fn new(mapping: &Arc<Mapping>, is_row_major: bool) -> Self {
        let mapping = Arc::clone(mapping);
        if is_row_major && !mapping.file_bytes().is_empty() {
            mapping.expect_ascending();
        }
        Self { mapping, is_row_major, used: None }
    }

    /// Records the chunk that the loop uses from now on. This chunk directly follows the previous chunk.
    fn record<T, D: Dimension>(&mut self, chunk: &ArrayRef<T, D>) {
        let len_bytes = chunk.len() * size_of::<T>(); // mapped, so the product fits
        if len_bytes == 0 {
            return;
        }
        self.used = Some(match &self.used {
            _ if !self.is_row_major => self.mapping.runs_of(chunk),
            Some(used) => ByteRuns::one(used.hull().start, used.run_bytes() + len_bytes),
            None => ByteRuns::one(chunk.as_ptr() as usize - self.mapping.addresses().start, len_bytes),
        });
    }

    /// Evicts the chunks that the loop has finished, unless they are very small. Returns an error if the mapping has
    /// faulted or a sync has failed. After a fault, the loop may have read zeros instead of the file's bytes. After a
    /// failed sync, stores of the loop may be lost.
    fn advance(&mut self) -> Result<()> {
        let is_enough = |used: &mut ByteRuns| !self.is_row_major || used.run_bytes() >= EVICTED_BYTES;
        match self.used.take_if(is_enough) {
            Some(used) => self.evict(&used),
            None => self.mapping.check_usable("try_next"),
        }
    }

    fn evict(&self, used: &ByteRuns) -> Result<()> {
        let lease = self.mapping.lease("try_next")?;
        self.mapping.evict_behind(used)?;
        lease.check_usable()
    }
}

impl Drop for ChunkHistory {
    fn drop(&mut self) {
        // Errors are ignored here, because the mapping records a failure and reports it later.
        let evicted = self.used.take().map_or(Ok(()), |used| self.evict(&used));
        if evicted.is_ok() && !self.mapping.is_closed() {
            let _ = self.mapping.end_loop();
        }
    }
}
