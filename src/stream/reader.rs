//! [`Reader`]: reads parts of a mapped array's file into buffers, under a lease on the mapping.

pub(super) use crate::io::{Batches, Run};

use crate::access::AccessMode;
use crate::error::Result;
use crate::fault;
use crate::io::{self, Batch, Transfer};
use crate::map::{Lease, Mapping};
use crate::sys::AlignedBuf;
use std::ops::Range;
use std::sync::Arc;

/// Reads a stream's source from the file of a mapped array.
///
/// Each call holds a lease on the mapping while it moves bytes. If another thread closes the array by its path, that
/// thread waits until the call has ended, and every later call fails with `Closed`.
#[derive(Debug)]
pub struct Reader {
    mapping: Arc<Mapping>,
    file: io::Reader,
    /// Whether the array is copy-on-write. Its changed pages are then read from memory, not from the file.
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

    /// Returns the reader of the file. Use it only under a [lease](Self::lease).
    pub(super) fn file(&self) -> &io::Reader {
        &self.file
    }

    /// Takes a lease, so that the array is not closed while its bytes are moved.
    pub(super) fn lease(&self) -> Result<Lease<'_>> {
        self.mapping.lease("stream")
    }

    /// Returns whether the kernel can write a block directly from its mapped pages. This is not done for a copy-on-write
    /// array, because its pages would stay resident in this process.
    pub(super) fn has_mapped_pages(&self, bytes: &Range<u64>) -> bool {
        !self.private && self.file.prefers_cache() && self.file.is_resident(bytes)
    }

    /// Runs `reduce`, which reads a block from its mapped pages. Returns `None`, and does not run `reduce`, if the block
    /// must be read to a buffer. `reduce` runs under a lease, so it must not call functions of the crate's user.
    ///
    /// The block is in the page cache, and its pages are in this process's page table before `reduce` runs. So a load
    /// can fault only if another process truncates the file meanwhile. The fault guard handles this fault, and then this
    /// method returns an error. Afterwards the pages are removed from the page table.
    pub(super) fn in_place<R>(&self, bytes: &Range<u64>, reduce: impl FnOnce() -> R) -> Result<Option<R>> {
        // Mapping a hole could allocate memory for it, on tmpfs.
        if !self.has_mapped_pages(bytes) || self.file.next_data(bytes.clone())? != *bytes {
            return Ok(None);
        }
        let lease = self.lease()?;
        if !self.mapping.populate(bytes) {
            return Ok(None);
        }
        let reduced = fault::if_faults_are_handled(reduce);
        self.mapping.release(bytes);
        // Between the new end of a truncated file and the end of its last page, loads see zeros and do not fault.
        self.file.check_length(bytes.end)?;
        lease.check_usable()?;
        Ok(reduced)
    }

    /// Returns the first part of a range that may contain bytes other than zero. For a copy-on-write array, this is the whole
    /// range, because a hole of the file can be changed in memory.
    pub(super) fn next_data(&self, bytes: Range<u64>) -> Result<Range<u64>> {
        if self.private {
            return Ok(bytes);
        }
        let _lease = self.lease()?;
        self.file.next_data(bytes)
    }

    /// Returns whether the array is copy-on-write, so that its bytes can differ from those of the file.
    pub(super) fn is_private(&self) -> bool {
        self.private
    }

    /// Returns whether a range contains all data bytes of the file.
    pub(super) fn has_whole_file(&self, bytes: &Range<u64>) -> bool {
        self.mapping.file_bytes() == *bytes && self.file.ends_with_file()
    }

    /// Reads a block into the buffer, at the position that [`io::Reader::read_span`] describes.
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

    /// Reads each run to its offset in the buffer. The runs can have any order, and may be repeated.
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

    /// Replaces bytes that were read from the file by the changed pages of a copy-on-write array.
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
