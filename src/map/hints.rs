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
    pub(super) fn prefetch_ranges(&self, ranges: impl Iterator<Item = Range<u64>>) -> Result<()> {
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

    pub(super) fn advise(&self, file_range: &Range<u64>, hint: Hint) -> io::Result<()> {
        let local = self.local(file_range);
        match &self.memory {
            Some(memory) if !local.is_empty() => memory.advise(local, hint),
            _ => Ok(()),
        }
    }
}
