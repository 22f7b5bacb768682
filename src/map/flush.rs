//! Flushing, which makes stores durable, and write-back, which does not.

use super::Mapping;
use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::file::FileName;
use crate::geometry::to_pages;
use crate::sys::{self, FileStatus, page_bytes};
use std::ops::Range;

/// Above this many ranges, the hull of all ranges is flushed or advised instead. Each flush needs a journal commit.
/// Each hint can split an entry of the kernel's table of mappings, which has 65,530 entries by default.
const MAX_SEPARATE_RANGES: usize = 64;

/// Returns the ranges, or their hull if there are more than [`MAX_SEPARATE_RANGES`].
pub(super) fn ranges_or_hull(mut ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let first: Vec<_> = ranges.by_ref().take(MAX_SEPARATE_RANGES).collect();
    match ranges.next() {
        None => first,
        Some(more) => {
            let start = first.first().map_or(more.start, |range| range.start);
            let end = ranges.fold(more.end, |end, range| end.max(range.end));
            std::iter::once(start..end).collect()
        }
    }
}

impl Mapping {
    /// Makes all stores of the mapping durable.
    pub(crate) fn flush(&self) -> Result<()> {
        self.flush_ranges(std::iter::once(self.file_bytes()))
    }

    /// Makes ranges of the file durable. Afterwards, returns an error if the file has lost its name.
    pub(crate) fn flush_ranges(&self, ranges: impl Iterator<Item = Range<u64>>) -> Result<()> {
        self.check_open("flush")?;
        self.make_durable(ranges)?;
        self.check_name("flush")
    }

    /// Returns an error if the file had a name, and every name of the file was deleted or given to another file: nobody
    /// can open the file, so what a writer has stored in it is lost. A renamed file, and a file with another hard link,
    /// still has a name.
    pub(super) fn check_name(&self, operation: &'static str) -> Result<()> {
        if self.name() != FileName::Given || self.access() != AccessMode::ReadWrite {
            return Ok(());
        }
        let status = sys::status(&self.file)
            .map_err(|error| Error::io(operation, "to count the file's names", error).at(&self.path))?;
        if status.names > 0 {
            return Ok(());
        }
        let found = "a file whose name was deleted, or given to another file";
        Err(Error::new(ErrorKind::NameLost, operation, "a file that has a name", found)
            .at(&self.path)
            .with_remedy(
                "copy the elements to a new file before the array is closed: nobody can open this one",
            ))
    }

    /// Makes ranges of the file durable, even if the mapping is closed. Does nothing for a read-only mapping, which
    /// stores nothing, and for a copy-on-write mapping, whose stores do not belong to the file.
    pub(super) fn make_durable(&self, ranges: impl Iterator<Item = Range<u64>>) -> Result<()> {
        self.check_intact("flush")?;
        if self.access() != AccessMode::ReadWrite {
            return Ok(());
        }
        let ranges = ranges_or_hull(ranges.filter(|range| !range.is_empty()));
        self.synced(|| {
            ranges.iter().try_for_each(|range| match &self.memory {
                Some(memory) => memory.sync(self.local(range)),
                None => Ok(()),
            })
        })?;
        // A sync reports no error for pages that faulted, or for pages that a truncation has removed from the file.
        self.check_intact("flush")?;
        self.check_length("flush")
    }

    /// Returns an error if the file was truncated while it was mapped. Stores beyond the new end of the file are lost.
    /// Such a store causes no fault if it was made before the truncation, or if it lies in the last page of the file.
    pub(crate) fn check_length(&self, operation: &'static str) -> Result<()> {
        self.status_if_whole(operation).map(drop)
    }

    /// Returns the status of the file, or the error of [`check_length`](Self::check_length).
    pub(super) fn status_if_whole(&self, operation: &'static str) -> Result<FileStatus> {
        let needed = self.file_bytes.end;
        let status = sys::status(&self.file)
            .map_err(|error| Error::io(operation, "to read the file's length", error).at(&self.path))?;
        if status.len >= needed {
            return Ok(status);
        }
        let len = status.len;
        let (expected, found) = (format!("a file of at least {needed} bytes"), format!("{len} bytes"));
        Err(Error::new(ErrorKind::LengthMismatch, operation, expected, found).at(&self.path).with_remedy(
            "another program has cut it short while it was mapped: what was stored beyond its end is lost",
        ))
    }

    /// Writes a range's dirty pages back, and waits until the write-back is complete. The pages are then clean, but not
    /// durable. Only [`flush`](Self::flush) also syncs the metadata and the disk's own cache.
    pub(crate) fn write_back(&self, file_range: &Range<u64>) -> Result<()> {
        let pages = to_pages(file_range.clone(), page_bytes());
        self.synced_alone(|| sys::sync_range(&self.file, pages))
    }

    /// Starts write-back of a range and does not wait.
    pub(crate) fn start_write_back(&self, file_range: &Range<u64>) -> Result<()> {
        let pages = to_pages(file_range.clone(), page_bytes());
        self.synced_alone(|| sys::start_writeback(&self.file, pages))
    }
}
