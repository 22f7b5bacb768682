//! [`ChunkLoop`]: a loop over consecutive chunks of a mapped array: its next chunk, and the eviction of finished chunks.

use crate::error::{ErrorKind, Result};
use crate::geometry::ByteRuns;
use crate::map::Mapping;
use ndarray::{ArrayRef, ArrayView, Dimension};
use std::ops::Range;
use std::sync::Arc;

/// If a loop has used fewer bytes than this since its last eviction, nothing is evicted yet.
const EVICTED_BYTES: usize = 64 << 10;

/// A loop over consecutive chunks of rows, or of columns.
#[derive(Debug)]
pub(super) struct ChunkLoop {
    mapping: Arc<Mapping>,
    /// The rows that the loop has not visited yet.
    left: Range<usize>,
    chunk_rows: usize,
    /// The chunks that the loop has used since its last eviction.
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

impl ChunkLoop {
    /// Starts a loop over the indices `rows` of an axis, in chunks of `chunk_rows`. `first` is the first chunk.
    /// `is_contiguous` tells whether each chunk is contiguous and directly follows the previous one.
    pub(super) fn new<T, D: Dimension>(
        mapping: &Arc<Mapping>,
        rows: Range<usize>,
        chunk_rows: usize,
        first: &ArrayView<'_, T, D>,
        is_contiguous: bool,
    ) -> Self {
        if !first.is_empty() && !mapping.file_bytes().is_empty() {
            mapping.expect_ascending(&mapping.runs_of(first));
        }
        let used = match is_contiguous && !first.is_empty() {
            true => {
                let start = first.as_ptr() as usize - mapping.addresses().start;
                Used::Contiguous(start..start)
            }
            false => Used::Scattered(None),
        };
        Self { mapping: Arc::clone(mapping), left: rows, chunk_rows, used }
    }

    /// Evicts the chunks that the loop has finished, and returns the range of the next chunk, or `None` after the last
    /// one. Returns an error if the mapping has faulted or a sync has failed. After a fault, the loop may have read zeros
    /// instead of the file's bytes. After a failed sync, stores of the loop may be lost.
    #[inline]
    pub(super) fn next_range(&mut self) -> Result<Option<Range<usize>>> {
        self.evict_finished()?;
        let Range { start, end } = self.left;
        self.left.start = end.min(start.saturating_add(self.chunk_rows));
        Ok((start < end).then_some(start..self.left.start))
    }

    /// Returns the next chunk of a loop that cannot return errors. After an error, the loop ends: every later call
    /// returns `None`.
    #[inline]
    pub(super) fn or_end<C>(&mut self, step: Result<Option<C>>) -> Option<C> {
        step.unwrap_or_else(|error| match error.kind() {
            ErrorKind::Closed => panic!("{error}"),
            _ => {
                self.left.start = self.left.end;
                None
            }
        })
    }

    /// Returns the number of chunks that the loop has not visited yet.
    pub(super) fn chunks_left(&self) -> usize {
        self.left.len().div_ceil(self.chunk_rows)
    }

    /// Records the chunk that the loop uses from now on. This chunk directly follows the previous chunk.
    #[inline]
    pub(super) fn record<T, D: Dimension>(&mut self, chunk: &ArrayRef<T, D>) {
        match &mut self.used {
            Used::Contiguous(bytes) => bytes.end += chunk.len() * size_of::<T>(), // mapped, so the sum fits
            Used::Scattered(used) if !chunk.is_empty() => *used = Some(self.mapping.runs_of(chunk)),
            Used::Scattered(_) => {}
        }
    }

    /// Evicts the chunks that the loop has finished, unless they are very small.
    #[inline]
    fn evict_finished(&mut self) -> Result<()> {
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

impl Drop for ChunkLoop {
    fn drop(&mut self) {
        // Errors are ignored here, because the mapping records a failure and reports it later.
        if self.evict_used().is_ok() && !self.mapping.is_closed() {
            let _ = self.mapping.end_loop();
        }
    }
}
