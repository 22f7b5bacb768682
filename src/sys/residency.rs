//! [`PageCounter`]: counts how many pages of a file are resident in the page cache, or reports that the count is
//! unknown.
//!
//! | call | which process gets a true result | which pages are counted wrongly |
//! | --- | --- | --- |
//! | `cachestat(2)`, Linux 6.5 | one that owns the file or may write it; others get `EPERM` | on overlayfs and FUSE, all pages: they belong to an underlying file |
//! | `mincore(2)` on a mapping made for the query | one that owns the file or may write it; for others every page counts as resident | pages that are still being read |
//! | `preadv2(RWF_NOWAIT)` of one byte | one that may read the file | a page at which the kernel would read ahead |
//!
//! The system may also refuse each of these calls. A counter tries the calls once, in this order. The counter then uses
//! the first call that returns true results.
//!
//! `preadv2` starts to read a page that is not resident. On Linux 6.18, querying every page of an uncached file of 4
//! MiB made the whole file resident. So the crate calls `preadv2` only for a few pages that are far apart, when a
//! stream chooses between the page cache and the disk. The crate never counts pages with this call.

use super::bytes::read_cached;
use super::os::{self, page_bytes};
use super::types::{Left, PageStore, Residency};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

/// The number of pages that `CountMethod::Samples` queries. It is small, because such a query starts to read a page
/// that is not resident.
const SAMPLES: u64 = 16;

/// Counts the resident pages of one open file, with the first call that returns true results for this file.
#[derive(Debug, Default)]
pub(crate) struct PageCounter {
    method: OnceLock<CountMethod>,
}

/// The system call that counts pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CountMethod {
    Cachestat,
    Mincore,
    Samples,
    None,
}

impl CountMethod {
    fn of(file: &File) -> Self {
        let page = page_bytes() as u64;
        if os::page_store(file) != PageStore::Below && os::count_cached(file, &(0..page)).is_ok() {
            Self::Cachestat
        } else if os::mincore_is_truthful(file).unwrap_or(false) {
            Self::Mincore
        } else if is_cached(file, 0).is_ok() {
            Self::Samples
        } else {
            Self::None
        }
    }
}

/// Returns whether the page at an offset is resident. The function tries to read one byte of the page without waiting
/// for the disk.
fn is_cached(file: &File, offset: u64) -> io::Result<bool> {
    match read_cached(file, &mut [0], offset) {
        Ok(read) => Ok(read > 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

impl PageCounter {
    fn method(&self, file: &File) -> CountMethod {
        *self.method.get_or_init(|| CountMethod::of(file))
    }

    /// Returns whether no system call counts the resident pages of the file. Then only a sample of the pages can be
    /// checked.
    pub(crate) fn is_sampling(&self, file: &File) -> bool {
        self.method(file) == CountMethod::Samples
    }

    /// Returns whether counting takes little time even for a very large file.
    pub(crate) fn is_fast(&self, file: &File) -> bool {
        self.method(file) == CountMethod::Cachestat
    }

    /// Counts the resident pages of a range that starts at a page boundary. `file` must be the same file in each call.
    pub(crate) fn resident_pages(&self, file: &File, range: Range<u64>) -> io::Result<Residency> {
        match self.method(file) {
            CountMethod::Cachestat => os::count_cached(file, &range).map(Residency::Known),
            CountMethod::Mincore => os::count_by_mincore(file, within(file, range)?).map(Residency::Known),
            CountMethod::Samples | CountMethod::None => Ok(Residency::Unknown),
        }
    }

    /// Returns whether every page of a range is resident. If no system call counts resident pages, this function checks
    /// only a sample of the pages. Returns `false` if the answer is unknown.
    pub(crate) fn all_resident(&self, file: &File, range: Range<u64>) -> bool {
        if self.method(file) == CountMethod::Samples {
            return samples(&range, 1, SAMPLES).all(|page| is_cached(file, page.start).unwrap_or(false));
        }
        let pages = (range.end - range.start).div_ceil(page_bytes() as u64);
        matches!(self.resident_pages(file, range), Ok(Residency::Known(count)) if count >= pages)
    }

    /// Returns whether more than half of the pages of a range are resident. If the time of a query grows with the
    /// number of pages, this function checks only a sample of the pages. Returns `false` if the answer is unknown.
    pub(crate) fn most_resident(&self, file: &File, range: Range<u64>) -> bool {
        let count = |part: Range<u64>| match self.resident_pages(file, part) {
            Ok(Residency::Known(count)) => count,
            _ => 0,
        };
        let pages_of = |part: &Range<u64>| (part.end - part.start).div_ceil(page_bytes() as u64);
        let sum = |(pages, resident), (more, found)| (pages + more, resident + found);
        let (pages, resident) = match self.method(file) {
            CountMethod::Cachestat | CountMethod::None => (pages_of(&range), count(range)),
            CountMethod::Mincore => {
                samples(&range, 64, 64).map(|part| (pages_of(&part), count(part))).fold((0, 0), sum)
            }
            CountMethod::Samples => samples(&range, 1, SAMPLES)
                .map(|page| (1, u64::from(is_cached(file, page.start).unwrap_or(false))))
                .fold((0, 0), sum),
        };
        resident > pages / 2
    }

    /// Returns what is left of a range in the page cache after an attempt to drop its pages. `cachestat` counts pages
    /// that are still being read, and `mincore` does not. So such pages are recognised only if the system supports
    /// `cachestat`.
    pub(crate) fn left(&self, file: &File, range: Range<u64>) -> io::Result<Left> {
        if !os::DROPS_CACHED {
            return Ok(Left::Nothing);
        }
        match self.resident_pages(file, range.clone())? {
            Residency::Known(0) => Ok(Left::Nothing),
            Residency::Known(cached) if self.method(file) == CountMethod::Cachestat => {
                let completely_read = os::count_by_mincore(file, within(file, range)?)?;
                Ok(if completely_read < cached { Left::BeingRead } else { Left::Settled })
            }
            Residency::Known(_) | Residency::Unknown => Ok(Left::Settled),
        }
    }
}

/// Returns at most `count` parts of a range, evenly spread from its start to its end. Each part has `pages_each` pages.
fn samples(range: &Range<u64>, pages_each: u64, count: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let len = pages_each * page_bytes() as u64;
    let (start, end) = (range.start, range.end);
    let parts = (end - start).div_ceil(len);
    let taken = parts.min(count);
    // Returns the index of a sampled part, from the first part to the last part. The product may not fit `u64`.
    let part =
        move |index: u64| (u128::from(index) * u128::from(parts - 1) / u128::from((taken - 1).max(1))) as u64;
    (0..taken).map(move |index| {
        let first = start + part(index) * len;
        first..(first + len).min(end)
    })
}

/// Returns the part of a range that lies before the end of the file.
fn within(file: &File, range: Range<u64>) -> io::Result<Range<u64>> {
    let end = range.end.min(os::status(file)?.len);
    Ok(range.start.min(end)..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_from_end_to_end_and_apart() {
        let page = page_bytes() as u64;
        for (pages, pages_each, count) in [
            (0, 1, 16),
            (1, 1, 16),
            (5, 1, 16),
            (16, 1, 16),
            (257, 1, 16),
            (10_000, 64, 64),
            (1 << 51, 1, 64),
        ] {
            let range = 3 * page..(3 + pages) * page;
            let parts: Vec<_> = samples(&range, pages_each, count).collect();
            assert_eq!(parts.len() as u64, pages.div_ceil(pages_each).min(count));
            assert!(parts.windows(2).all(|pair| pair[0].end <= pair[1].start));
            assert_eq!(parts.first().map(|part| part.start), (pages > 0).then_some(range.start));
            assert_eq!(parts.last().map(|part| part.end), (pages > 0).then_some(range.end));
        }
    }
}
