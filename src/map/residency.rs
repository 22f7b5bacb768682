//! Counting the resident pages of a mapping.

use super::Mapping;
use crate::error::{Error, Result};
use crate::geometry::to_pages;
use crate::io::split_at_pages;
use crate::sys::{self, page_bytes};
use std::io;
use std::ops::Range;

/// How much of a range of a file is in the page cache.
///
/// ```
/// let mut array = ndarray_mmap::MmapArray::<f32, ndarray::Ix1>::scratch(1000)?;
/// array.fill(1.0);
/// let residency = array.residency()?;
/// assert_eq!((residency.resident_bytes, residency.total_bytes), (4000, 4000));
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// The number of bytes of the range that are resident in the page cache.
    pub resident_bytes: usize,
    /// The number of bytes of the range.
    pub total_bytes: usize,
}

impl Mapping {
    /// Counts the bytes of ranges of the file that are resident in the page cache.
    pub(crate) fn residency_of_ranges(
        &self,
        mut ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<Residency> {
        self.check_open("residency")?;
        self.settle()?;
        let failed = |error| {
            Error::io("residency", "to count cached pages", error)
                .at(&self.path)
                .with_remedy("ask as the owner of the file, or as a user who may write it")
        };
        ranges.try_fold(Residency::default(), |sum, range| {
            let resident = self.resident_bytes(&range).map_err(failed)?;
            Ok(Residency {
                resident_bytes: sum.resident_bytes + resident as usize, // at most the length of the range
                total_bytes: sum.total_bytes + (range.end - range.start) as usize, // the range is mapped, so its length fits `usize`
            })
        })
    }

    /// Counts the resident bytes of one range: the bytes of its resident pages that lie within the range. Queries each
    /// page only once, because a page can enter or leave the page cache between two queries.
    fn resident_bytes(&self, range: &Range<u64>) -> io::Result<u64> {
        let page = page_bytes() as u64;
        let cached = |pages: Range<u64>| match self.page_counter.resident_pages(&self.file, pages)? {
            sys::Residency::Known(count) => Ok(count),
            sys::Residency::Unknown => {
                let reason = "a system that tells this process nothing of the file's cached pages";
                Err(io::Error::new(io::ErrorKind::Unsupported, reason))
            }
        };
        let in_part_of_a_page = |part: Range<u64>| -> io::Result<u64> {
            match part.end - part.start {
                0 => Ok(0),
                len => Ok(cached(to_pages(part, page_bytes()))?.min(1) * len),
            }
        };
        let (head, whole, tail) = split_at_pages(range);
        let in_whole_pages = if whole.is_empty() { 0 } else { cached(whole)? * page };
        Ok(in_part_of_a_page(head)? + in_whole_pages + in_part_of_a_page(tail)?)
    }
}
