//! Hints to the kernel: read-ahead patterns and prefetching.

use super::Mapping;
use super::flush::ranges_or_hull;
use crate::error::{Error, Result};
use crate::sys::Hint;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

impl Mapping {
    /// Tells the kernel how the caller will access ranges of the file.
    pub(crate) fn choose_pattern(
        &self,
        operation: &'static str,
        pattern: Hint,
        ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<()> {
        self.pattern_chosen.store(true, Ordering::Relaxed);
        self.advise_ranges(operation, pattern, ranges_or_hull(ranges).into_iter())
    }

    /// Starts reading ranges of the file into the page cache.
    pub(crate) fn prefetch_ranges(&self, ranges: impl Iterator<Item = Range<u64>>) -> Result<()> {
        self.check_open("prefetch")?;
        self.advise_ranges("prefetch", Hint::WillNeed, ranges)
    }

    fn advise_ranges(
        &self,
        operation: &'static str,
        hint: Hint,
        mut ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<()> {
        ranges.try_for_each(|range| self.advise(&range, hint)).map_err(|error| {
            Error::io(operation, format!("the hint {hint:?} to be taken"), error).at(&self.path)
        })
    }

    /// Tells the kernel to read ahead for a loop over the array, unless the caller has chosen a pattern.
    pub(crate) fn expect_sequential(&self) {
        if self.pattern_chosen.swap(true, Ordering::Relaxed) {
            return;
        }
        let _ = self.advise(&self.file_bytes, Hint::Sequential);
        // If the filesystem supports huge pages, the kernel reads several times more ahead with them.
        let _ = self.advise(&self.file_bytes, Hint::HugePages);
    }

    /// Stops the kernel from reading pages around a fault, as soon as part of the array has been evicted.
    ///
    /// By default, the kernel also reads neighbouring pages at a fault: as many below the faulting page as above it. At
    /// a fault next to evicted rows, it reads the evicted rows again. In this way a loop over chunks filled the page
    /// cache with the whole file. With sequential read-ahead, the kernel reads only forwards. If the caller has chosen
    /// a pattern, the pattern stays.
    pub(crate) fn stop_reading_around(&self, ranges: &(impl Iterator<Item = Range<u64>> + Clone)) {
        let all = &self.file_bytes;
        let is_part = |range: Range<u64>| range.start > all.start || range.end < all.end;
        if ranges.clone().next().is_some_and(is_part) && !self.pattern_chosen.swap(true, Ordering::Relaxed) {
            let _ = self.advise(all, Hint::Sequential);
        }
    }

    fn advise(&self, file_range: &Range<u64>, hint: Hint) -> io::Result<()> {
        let local = self.local(file_range);
        match &self.memory {
            Some(memory) if !local.is_empty() => memory.advise(local, hint),
            _ => Ok(()),
        }
    }
}
