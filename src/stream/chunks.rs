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
        let rest = self.view();
        let rows = rows_of(&rest.raw_dim());
        let chunk_rows = budget.mapped_rows(row_bytes_of::<T, D>(&rest.raw_dim()));
        let history = ChunkHistory::new(self.mapping(), &rest, chunk_rows);
        RowChunks { history, rest: Some(rest), next: 0, rows, chunk_rows }
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
        let rows = rows_of(&rest.raw_dim());
        let chunk_rows = budget.mapped_rows(row_bytes_of::<T, D>(&rest.raw_dim()));
        let history = ChunkHistory::new(&mapping, &rest.view(), chunk_rows);
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
    rest: Option<ArrayView<'a, T, D>>,
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
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<(Range<usize>, ArrayView<'a, T, D>)>> {
        self.history.advance()?;
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

/// Ends early if [`try_next`](RowChunks::try_next) would return an error. The next flush, eviction or `close` of the
/// array reports the error. Panics if the array was closed by its path.
impl<'a, T: Pod, D: Dimension> Iterator for RowChunks<'a, T, D> {
    type Item = (Range<usize>, ArrayView<'a, T, D>);

    #[inline]
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
    #[inline]
    pub fn try_next(&mut self) -> Result<Option<(Range<usize>, ArrayViewMut<'a, T, D>)>> {
        self.history.advance()?;
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

    #[inline]
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
#[inline]
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
    used: Used,
}

/// The bytes of chunks, relative to the start of the mapping's data.
#[derive(Debug)]
enum Used {
    /// Chunks of which each is contiguous and directly follows the previous one.
    Contiguous(Range<usize>),
    /// One chunk.
    Scattered(Option<ByteRuns>),
}

impl ChunkHistory {
    fn new<T, D: Dimension>(mapping: &Arc<Mapping>, all: &ArrayView<'_, T, D>, chunk_rows: usize) -> Self {
        let first = slice_rows(all, &(0..rows_of(&all.raw_dim()).min(chunk_rows)));
        if !first.is_empty() && !mapping.file_bytes().is_empty() {
            mapping.expect_ascending(&mapping.runs_of(&first));
        }
        let used = match all.is_standard_layout() && !first.is_empty() {
            true => {
                let start = first.as_ptr() as usize - mapping.addresses().start;
                Used::Contiguous(start..start)
            }
            false => Used::Scattered(None),
        };
        Self { mapping: Arc::clone(mapping), used }
    }

    /// Records the chunk that the loop uses from now on. This chunk directly follows the previous chunk.
    #[inline]
    fn record<T, D: Dimension>(&mut self, chunk: &ArrayRef<T, D>) {
        match &mut self.used {
            Used::Contiguous(bytes) => bytes.end += chunk.len() * size_of::<T>(), // mapped, so the sum fits
            Used::Scattered(used) if !chunk.is_empty() => *used = Some(self.mapping.runs_of(chunk)),
            Used::Scattered(_) => {}
        }
    }

    /// Evicts the chunks that the loop has finished, unless they are very small. Returns an error if the mapping has
    /// faulted or a sync has failed. After a fault, the loop may have read zeros instead of the file's bytes. After a
    /// failed sync, stores of the loop may be lost.
    #[inline]
    fn advance(&mut self) -> Result<()> {
        match &self.used {
            Used::Contiguous(bytes) if bytes.len() < EVICTED_BYTES => self.mapping.check_usable("try_next"),
            Used::Scattered(None) => self.mapping.check_usable("try_next"),
            _ => self.evict_used().map_err(|error| error.during("try_next")),
        }
    }

    #[inline(never)]
    fn evict_used(&mut self) -> Result<()> {
        let used = match &mut self.used {
            Used::Contiguous(bytes) => {
                let used = ByteRuns::one(bytes.start, bytes.len());
                bytes.start = bytes.end;
                used
            }
            Used::Scattered(used) => match used.take() {
                Some(used) => used,
                None => return Ok(()),
            },
        };
        let lease = self.mapping.lease("try_next")?;
        self.mapping.evict_behind(&used)?;
        lease.check_usable()
    }
}

impl Drop for ChunkHistory {
    fn drop(&mut self) {
        // Errors are ignored here, because the mapping records a failure and reports it later.
        if self.evict_used().is_ok() && !self.mapping.is_closed() {
            let _ = self.mapping.end_loop();
        }
    }
}
