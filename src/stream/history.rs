//! [`ChunkHistory`]: the chunks that a loop over a mapped array has used, and their eviction.

use crate::error::{ErrorKind, Result};
use crate::geometry::ByteRuns;
use crate::map::Mapping;
use ndarray::{ArrayRef, ArrayView, Dimension};
use std::ops::Range;
use std::sync::Arc;

/// Returns the next chunk of a loop that cannot return errors. After an error, the loop ends: every later call returns
/// `None`.
#[inline]
pub(super) fn or_end_loop<C>(step: Result<Option<C>>, next: &mut usize, end: usize) -> Option<C> {
    step.unwrap_or_else(|error| match error.kind() {
        ErrorKind::Closed => panic!("{error}"),
        _ => {
            *next = end;
            None
        }
    })
}

/// If a loop has used fewer bytes than this since its last eviction, nothing is evicted yet.
const EVICTED_BYTES: usize = 64 << 10;

/// The mapping that a loop visits, and the chunks that the loop has used since its last eviction.
#[derive(Debug)]
pub(super) struct ChunkHistory {
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
    /// Starts a loop. `first` is the first chunk. `is_contiguous` tells whether each chunk is contiguous and directly
    /// follows the previous one.
    pub(super) fn new<T, D: Dimension>(
        mapping: &Arc<Mapping>,
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
        Self { mapping: Arc::clone(mapping), used }
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

    /// Evicts the chunks that the loop has finished, unless they are very small. Returns an error if the mapping has
    /// faulted or a sync has failed. After a fault, the loop may have read zeros instead of the file's bytes. After a
    /// failed sync, stores of the loop may be lost.
    #[inline]
    pub(super) fn advance(&mut self) -> Result<()> {
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
