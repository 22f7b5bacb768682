//! [`PageCounter`]: how many pages of a file are in the page cache, truthfully or not at all.
//!
//! | call | who is told | what it misses |
//! | --- | --- | --- |
//! | `cachestat(2)`, Linux 6.5 | who owns the file or may write it; others get `EPERM` | the pages of the file below, on overlayfs and FUSE |
//! | `mincore(2)` on a mapping made for the question | the same; others are told that every page is resident | pages that are still being read |
//! | `preadv2(RWF_NOWAIT)`, a byte of a page | who may read it | a page at which the kernel means to read ahead |
//!
//! Each of them may be forbidden as well. A counter tries them in this order, once, and keeps the first that is truthful.
//!
//! `preadv2` starts to read a page that it does not find (measured on Linux 6.18: asking for every page of a 4 MiB file that
//! was not cached brought in all of it). So it is asked for a few pages far apart, when a stream chooses between the cache and
//! the disk, and never to count.

use super::bytes::read_cached;
use super::os::{self, page_bytes};
use super::types::{Left, PageStore, Residency};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

/// How many pages are looked at where looking starts to read a page that is not there.
const SAMPLES: u64 = 16;

/// Counts the cached pages of one open file, by the call that was found truthful for it.
#[derive(Debug, Default)]
pub(crate) struct PageCounter {
    way: OnceLock<Way>,
}

/// A call that counts pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Cachestat,
    Mincore,
    Samples,
    None,
}

impl Way {
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

/// Whether the page at an offset is in the page cache: a byte of it can be read without reading from disk.
fn is_cached(file: &File, offset: u64) -> io::Result<bool> {
    match read_cached(file, &mut [0], offset) {
        Ok(read) => Ok(read > 0),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

impl PageCounter {
    fn way(&self, file: &File) -> Way {
        *self.way.get_or_init(|| Way::of(file))
    }

    /// Counts the resident pages of a range that starts at a page. `file` is the same at each call.
    pub(crate) fn resident_pages(&self, file: &File, range: Range<u64>) -> io::Result<Residency> {
        match self.way(file) {
            Way::Cachestat => os::count_cached(file, &range).map(Residency::Known),
            Way::Mincore => os::count_by_mincore(file, within(file, range)?).map(Residency::Known),
            Way::Samples | Way::None => Ok(Residency::Unknown),
        }
    }

    /// Whether every page of a range is resident, or every sample of them where nobody counts. False if nobody can tell.
    pub(crate) fn all_resident(&self, file: &File, range: Range<u64>) -> bool {
        if self.way(file) == Way::Samples {
            return samples(&range, 1, SAMPLES).all(|page| is_cached(file, page.start).unwrap_or(false));
        }
        let pages = (range.end - range.start).div_ceil(page_bytes() as u64);
        matches!(self.resident_pages(file, range), Ok(Residency::Known(count)) if count >= pages)
    }

    /// Whether more than half of the pages of a range are resident, or of samples of them where counting takes a look at
    /// every page. False if nobody can tell.
    pub(crate) fn most_resident(&self, file: &File, range: Range<u64>) -> bool {
        let count = |part: Range<u64>| match self.resident_pages(file, part) {
            Ok(Residency::Known(count)) => count,
            _ => 0,
        };
        let pages_of = |part: &Range<u64>| (part.end - part.start).div_ceil(page_bytes() as u64);
        let sum = |(pages, resident), (more, found)| (pages + more, resident + found);
        let (pages, resident) = match self.way(file) {
            Way::Cachestat | Way::None => (pages_of(&range), count(range)),
            Way::Mincore => {
                samples(&range, 64, 64).map(|part| (pages_of(&part), count(part))).fold((0, 0), sum)
            }
            Way::Samples => samples(&range, 1, SAMPLES)
                .map(|page| (1, u64::from(is_cached(file, page.start).unwrap_or(false))))
                .fold((0, 0), sum),
        };
        resident > pages / 2
    }

    /// What is left of a range in the page cache after it was asked to drop it. Only `cachestat` counts the pages that are
    /// still being read.
    pub(crate) fn left(&self, file: &File, range: Range<u64>) -> io::Result<Left> {
        if !os::DROPS_CACHED {
            return Ok(Left::Nothing);
        }
        match self.resident_pages(file, range.clone())? {
            Residency::Known(0) => Ok(Left::Nothing),
            Residency::Known(cached) if self.way(file) == Way::Cachestat => {
                let is_read = os::count_by_mincore(file, within(file, range)?)?;
                Ok(if is_read < cached { Left::BeingRead } else { Left::Settled })
            }
            Residency::Known(_) | Residency::Unknown => Ok(Left::Settled),
        }
    }
}

/// At most `count` parts of a range, of so many pages each, evenly spread from its start to its end.
fn samples(range: &Range<u64>, pages_each: u64, count: u64) -> impl Iterator<Item = Range<u64>> + use<> {
    let len = pages_each * page_bytes() as u64;
    let (start, end) = (range.start, range.end);
    let parts = (end - start).div_ceil(len);
    let taken = parts.min(count);
    // From the first part to the last one; u128, as the product may not fit.
    let part =
        move |index: u64| (u128::from(index) * u128::from(parts - 1) / u128::from((taken - 1).max(1))) as u64;
    (0..taken).map(move |index| {
        let first = start + part(index) * len;
        first..(first + len).min(end)
    })
}

/// The part of a range that lies in the file.
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
