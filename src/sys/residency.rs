//! [`PageCounter`]: how many pages of a file are in the page cache, truthfully or not at all.
//!
//! | call | who is told | what it misses |
//! | --- | --- | --- |
//! | `cachestat(2)`, Linux 6.5 | who owns the file or may write it; others get `EPERM` | the pages of the file below, on overlayfs and FUSE |
//! | `mincore(2)` on a mapping made for the question | the same; others are told that every page is resident | pages that are still being read |
//! | `preadv2(RWF_NOWAIT)`, a byte of each page | who may read it | a page in which the kernel means to read ahead |
//!
//! Each of them may be forbidden as well. A counter tries them in this order, once, and keeps the first that is truthful.

use super::bytes::read_cached;
use super::os::{self, page_bytes};
use super::types::{Left, PageStore, Residency};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::OnceLock;

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
    ReadCached,
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
            Self::ReadCached
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
        let count = match self.way(file) {
            Way::Cachestat => os::count_cached(file, &range)?,
            Way::Mincore => os::count_by_mincore(file, within(file, range)?)?,
            Way::ReadCached => {
                let mut pages = within(file, range)?.step_by(page_bytes());
                pages.try_fold(0, |count, page| {
                    Ok::<_, io::Error>(count + u64::from(is_cached(file, page)?))
                })?
            }
            Way::None => return Ok(Residency::Unknown),
        };
        Ok(Residency::Known(count))
    }

    /// Whether every page of a range is resident. False if nobody can tell.
    pub(crate) fn all_resident(&self, file: &File, range: Range<u64>) -> bool {
        let pages = (range.end - range.start).div_ceil(page_bytes() as u64);
        matches!(self.resident_pages(file, range), Ok(Residency::Known(count)) if count >= pages)
    }

    /// Whether more than half of the pages of a range are resident. False if nobody can tell. Where counting takes a look at
    /// every page, this looks at samples.
    pub(crate) fn most_resident(&self, file: &File, range: Range<u64>) -> bool {
        /// Samples of 64 pages each, evenly spread: looking at them takes less than a millisecond.
        const SAMPLES: u64 = 64;
        let page = page_bytes() as u64;
        let sample_bytes = 64 * page;
        let pages = (range.end - range.start).div_ceil(page);
        let (mut counted, mut resident) = (0, 0);
        let mut count = |part: Range<u64>| {
            counted += (part.end - part.start).div_ceil(page);
            if let Ok(Residency::Known(count)) = self.resident_pages(file, part) {
                resident += count;
            }
        };
        if self.way(file) == Way::Cachestat || pages <= SAMPLES * 64 {
            count(range);
        } else {
            let apart = pages / SAMPLES * page;
            let starts = (0..SAMPLES).map(|index| range.start + index * apart);
            starts.for_each(|start| count(start..start + sample_bytes));
        }
        resident > counted / 2
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

/// The part of a range that lies in the file.
fn within(file: &File, range: Range<u64>) -> io::Result<Range<u64>> {
    let end = range.end.min(os::status(file)?.len);
    Ok(range.start.min(end)..end)
}
