//! [`Reader`]: reads parts of a mapped array into buffers, beside the mapping, under a lease on it.

pub(super) use crate::io::{Batches, Run};

use crate::access::AccessMode;
use crate::error::Result;
use crate::io::{self, Batch, Transfer};
use crate::map::{Lease, Mapping};
use crate::sys::AlignedBuf;
use std::ops::Range;
use std::sync::Arc;

/// The source of a stream in the file of a mapped array.
///
/// Each call holds a lease on the mapping while it moves bytes: closing the array by its path waits for the call, and every later call
/// is `Closed`.
#[derive(Debug)]
pub struct Reader {
    mapping: Arc<Mapping>,
    file: io::Reader,
    /// The array is copy-on-write: its changed pages are read from memory, not from the file.
    private: bool,
}

impl Reader {
    /// Prepares to read the part `bytes` of the array's file.
    pub(super) fn new(mapping: Arc<Mapping>, bytes: &Range<u64>, transfer: Transfer) -> Self {
        let file = io::Reader::new(mapping.file(), mapping.id(), mapping.path(), bytes.clone(), transfer);
        Self { private: mapping.access() == AccessMode::CopyOnWrite, file, mapping }
    }

    pub(super) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// The reader of the file. Use it under a [lease](Self::lease) only.
    pub(super) fn file(&self) -> &io::Reader {
        &self.file
    }

    /// Keeps the array from being closed while bytes of it are moved.
    pub(super) fn lease(&self) -> Result<Lease<'_>> {
        self.mapping.lease("stream")
    }

    /// Whether the mapped pages of a block can be handed to the kernel as they are. Pages of a copy-on-write array could be, but would
    /// stay in this process.
    pub(super) fn has_mapped_pages(&self, bytes: &Range<u64>) -> bool {
        !self.private && self.file.prefers_cache() && self.file.is_resident(bytes)
    }

    /// Reads a block to its place within its pages: see [`io::Reader::read_span`].
    pub(super) fn read_span(&self, buffer: &mut AlignedBuf, bytes: &Range<u64>) -> Result<()> {
        let lease = self.lease()?;
        self.file.read_span(buffer, bytes)?;
        if self.private {
            let first_page = bytes.start - bytes.start % crate::sys::page_bytes() as u64;
            for changed in self.mapping.changed_parts(bytes) {
                let at = (changed.start - first_page) as usize..(changed.end - first_page) as usize;
                self.mapping.copy_changed(changed.start, &mut buffer.bytes_mut()[at])?;
            }
            lease.check_usable()?;
        }
        Ok(())
    }

    /// Reads runs, in any order, repeats allowed, to their places in the buffer.
    pub(super) fn read_runs(
        &self,
        buffer: &mut [u8],
        runs: &mut Vec<Run>,
        batches: &mut Batches,
    ) -> Result<()> {
        let lease = self.lease()?;
        self.file.read_runs(buffer, runs, batches, &mut |buffer, batch| match self.private {
            true => self.copy_changes(buffer, &batch),
            false => Ok(()),
        })?;
        if self.private { lease.check_usable() } else { Ok(()) }
    }

    /// Copies the changed pages of a copy-on-write array over what was read from the file.
    fn copy_changes(&self, buffer: &mut [u8], batch: &Batch<'_>) -> Result<()> {
        for changed in batch.parts().flat_map(|part| self.mapping.changed_parts(&part)) {
            for run in batch.runs_near(&changed) {
                let (start, end) = (run.offset.max(changed.start), run.end().min(changed.end));
                if start < end {
                    let at = run.at + (start - run.offset) as usize;
                    self.mapping.copy_changed(start, &mut buffer[at..at + (end - start) as usize])?;
                }
            }
        }
        Ok(())
    }
}
