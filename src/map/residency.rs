//! Counting the pages of a mapping that are in the page cache.

use super::Mapping;
use crate::error::{Error, Result};
use crate::geometry::to_pages;
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
    /// The bytes of the range that lie in cached pages.
    pub resident_bytes: usize,
    /// The bytes of the range.
    pub total_bytes: usize,
}

impl Mapping {
    /// Counts the bytes of ranges of the file that lie in cached pages.
    pub(crate) fn residency_of_ranges(
        &self,
        mut ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<Residency> {
        self.check_open("residency")?;
        let failed = |error| {
            Error::io("residency", "to count cached pages", error)
                .at(&self.path)
                .or_else_try("ask as the owner of the file, or as a user who may write it")
        };
        ranges.try_fold(Residency::default(), |sum, range| {
            let resident = self.resident_bytes(&range).map_err(failed)?;
            Ok(Residency {
                resident_bytes: sum.resident_bytes + resident as usize, // at most the bytes of the range
                total_bytes: sum.total_bytes + (range.end - range.start) as usize, // mapped, so a usize
            })
        })
    }

    /// The bytes of one range that lie in cached pages: its cached pages, less what reaches over its two ends.
    fn resident_bytes(&self, range: &Range<u64>) -> io::Result<u64> {
        if range.is_empty() {
            return Ok(0);
        }
        let page = page_bytes() as u64;
        let pages = to_pages(range.clone(), page_bytes());
        let cached = |pages: Range<u64>| match self.page_counter.resident_pages(&self.file, pages)? {
            sys::Residency::Known(count) => Ok(count),
            sys::Residency::Unknown => {
                let reason = "a system that tells this process nothing of the file's cached pages";
                Err(io::Error::new(io::ErrorKind::Unsupported, reason))
            }
        };
        let mut resident = cached(pages.clone())? * page;
        let (before, after) = (range.start - pages.start, pages.end - range.end);
        if resident > 0 && before > 0 && cached(pages.start..pages.start + page)? > 0 {
            resident -= before;
        }
        if resident > 0 && after > 0 && cached(pages.end - page..pages.end)? > 0 {
            resident -= after;
        }
        Ok(resident)
    }
}
