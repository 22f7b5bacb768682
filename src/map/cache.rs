//! Flushing, evicting, prefetching and counting the pages of a mapping.
//!
//! Eviction is a sequence in which no step can be left out (measured on Linux 6.18, ext4):
//! 1. write the range back, for the kernel drops no dirty page;
//! 2. take its pages out of every mapping of this process, for it drops no mapped page;
//! 3. split the large folios that reach over an edge of the range, for it drops whole folios only;
//! 4. ask it to drop the range, and again where a page was busy.

use super::{Mapping, REGISTRY};
use crate::access::AccessMode;
use crate::error::{Error, Result};
use crate::geometry::{ByteRuns, merged, to_pages};
use crate::sys::{self, Left, page_bytes};
use memmap2::Advice;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How many ranges are treated one by one where each is dear: a flush costs a journal commit, a pattern two more entries in
/// the process's table of mappings, which holds 65,530.
const DEAR_ONE_BY_ONE: usize = 64;

/// The pauses before the attempts of an eviction. A folio that the kernel itself holds at that moment, in a batch of some
/// processor's say, is neither split nor dropped: about one eviction in a thousand needs a second attempt, and one in ten
/// thousand some milliseconds (measured under load).
const PAUSES: [Duration; 7] = {
    let micros = Duration::from_micros;
    [micros(0), micros(0), micros(250), micros(500), micros(1000), micros(2000), micros(4000)]
};

/// How many of the attempts are made where pages are likely to be held for long, or nobody asked for patience.
const HASTY_ATTEMPTS: usize = 2;

/// How long an eviction waits for pages that are being read; a disk that is slower than this keeps them cached.
const MOST_READING: Duration = Duration::from_secs(2);

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

/// The ranges, or, where they are more than a few, the one from the first to the last with what lies between.
pub(super) fn few(mut ranges: impl Iterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let first: Vec<_> = ranges.by_ref().take(DEAR_ONE_BY_ONE).collect();
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
    /// Where runs of bytes, relative to the start of the data, lie in the file.
    pub(crate) fn in_file(&self, runs: ByteRuns) -> impl Iterator<Item = Range<u64>> + Clone + use<> {
        let start = self.file_bytes().start;
        runs.map(move |run| start + run.start as u64..start + run.end as u64)
    }

    /// The whole pages of the file that hold runs of bytes, each page once.
    pub(crate) fn pages_in_file(&self, runs: ByteRuns) -> impl Iterator<Item = Range<u64>> + Clone + use<> {
        let runs = self.in_file(runs.joined_to_pages(page_bytes()));
        merged(runs.map(|run| to_pages(run, page_bytes())))
    }

    /// Flushes ranges of the file, and drops their pages from this process and from the page cache.
    pub(crate) fn evict_ranges(&self, ranges: impl Iterator<Item = Range<u64>> + Clone) -> Result<()> {
        self.check_open("evict")?;
        self.stop_reading_around(&ranges)?;
        self.flush_as(self.access(), ranges.clone())?;
        self.drop_ranges(self.access(), ranges, &PAUSES)
    }

    /// Whoever evicts part of an array is walking through it. By default a fault beside the evicted rows reads as much of
    /// the file before the fault as behind it, and so brings them back: a loop over chunks ended with the whole file in
    /// the cache. Sequential read-ahead looks forward only. A pattern that the caller has chosen stays.
    fn stop_reading_around(&self, ranges: &(impl Iterator<Item = Range<u64>> + Clone)) -> Result<()> {
        let everything = self.file_bytes();
        let is_part = |range: Range<u64>| range.start > everything.start || range.end < everything.end;
        if ranges.clone().next().is_some_and(is_part) && !self.pattern_chosen.swap(true, Ordering::Relaxed) {
            self.advise_ranges("evict", Advice::Sequential, std::iter::once(everything))?;
        }
        Ok(())
    }

    /// The same for an array that goes, with less patience.
    pub(super) fn evict_as(
        &self,
        access: AccessMode,
        ranges: impl Iterator<Item = Range<u64>> + Clone,
    ) -> Result<()> {
        self.flush_as(access, ranges.clone())?;
        self.drop_ranges(access, ranges, &PAUSES[..HASTY_ATTEMPTS])
    }

    fn drop_ranges(
        &self,
        access: AccessMode,
        mut ranges: impl Iterator<Item = Range<u64>>,
        pauses: &[Duration],
    ) -> Result<()> {
        if access == AccessMode::CopyOnWrite {
            return Ok(());
        }
        ranges.try_for_each(|range| self.drop_pages(to_pages(range, page_bytes()), pauses))
    }

    /// The same for pages that a stream has passed, with less patience.
    pub(super) fn drop_passed_pages(&self, pages: Range<u64>) -> Result<()> {
        self.drop_pages(pages, &PAUSES[..HASTY_ATTEMPTS])
    }

    /// Steps 2 to 4. `pages` are whole pages, written back already if this mapping wrote them.
    fn drop_pages(&self, pages: Range<u64>, pauses: &[Duration]) -> Result<()> {
        let failed = |error| Error::io("evict", "to drop pages", error).at(&self.path);
        if pages.is_empty() {
            return Ok(());
        }
        let siblings = REGISTRY.on_file(self.id);
        siblings.iter().try_for_each(|mapping| mapping.unmap_pages(&pages)).map_err(failed)?;
        if self.in_memory {
            return Ok(());
        }
        siblings.iter().try_for_each(|mapping| mapping.release_unchanged(&pages)).map_err(failed)?;
        // Pages that somebody else dirtied: the kernel would keep them.
        self.synced(|| sys::sync_range(&self.file, pages.clone()))?;
        self.drop_clean_pages(&pages, pauses).map_err(failed)
    }

    /// Steps 3 and 4, as often as it takes.
    fn drop_clean_pages(&self, pages: &Range<u64>, pauses: &[Duration]) -> io::Result<()> {
        // Pages that stayed last time are probably mapped by somebody else, and not worth a wait.
        let hasty = self.held_elsewhere.load(Ordering::Relaxed);
        for pause in if hasty { &pauses[..HASTY_ATTEMPTS] } else { pauses } {
            if !pause.is_zero() {
                std::thread::sleep(*pause);
            }
            self.split_and_drop(pages)?;
            if !self.wait_for_reads(pages)? {
                self.held_elsewhere.store(false, Ordering::Relaxed);
                return Ok(());
            }
        }
        self.held_elsewhere.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Steps 3 and 4, once.
    fn split_and_drop(&self, pages: &Range<u64>) -> io::Result<()> {
        let page = page_bytes() as u64;
        if pages.start > 0 {
            self.split_folio(pages.start - page..pages.start, pages.start..pages.start + page)?;
        }
        self.split_folio(pages.end..pages.end + page, pages.end - page..pages.end)?;
        sys::drop_cached(&self.file, pages.clone())
    }

    /// Waits for pages that are still being read, for a prefetch say: they are locked, so the kernel drops none of them.
    /// False if nothing is cached; what is may have been read just now.
    fn wait_for_reads(&self, pages: &Range<u64>) -> io::Result<bool> {
        let started = Instant::now();
        let mut pause = Duration::from_micros(50);
        loop {
            match sys::left_in_cache(&self.file, pages.clone())? {
                Left::Nothing => return Ok(false),
                Left::BeingRead if started.elapsed() < MOST_READING => std::thread::sleep(pause),
                Left::BeingRead | Left::Settled => return Ok(true),
            }
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    /// Splits the folio that holds both pages, if there is one, by reclaiming the `inner` one alone.
    fn split_folio(&self, outer: Range<u64>, inner: Range<u64>) -> io::Result<()> {
        let both = outer.start.min(inner.start)..outer.end.max(inner.end);
        match sys::cached_pages(&self.file, both) {
            Ok(2..) => {}
            Ok(_) => return Ok(()),
            // Who neither owns the file nor may write it is not told, and may not reclaim a page alone: a folio that
            // reaches over the edge stays. Whole folios go all the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
            Err(error) => return Err(error),
        }
        sys::reclaim_page(&self.file, inner).or_else(|error| match error.raw_os_error() {
            // Older kernels, other systems: whole folios at the edges stay.
            Some(libc::EINVAL) => Ok(()),
            _ => Err(error),
        })
    }

    /// Takes the caller's word for how ranges of the file will be used.
    pub(crate) fn choose_pattern(
        &self,
        operation: &'static str,
        pattern: Advice,
        ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<()> {
        self.pattern_chosen.store(true, Ordering::Relaxed);
        self.advise_ranges(operation, pattern, few(ranges).into_iter())
    }

    /// Starts reading ranges of the file.
    pub(crate) fn prefetch_ranges(&self, ranges: impl Iterator<Item = Range<u64>>) -> Result<()> {
        self.advise_ranges("prefetch", Advice::WillNeed, ranges)
    }

    fn advise_ranges(
        &self,
        operation: &'static str,
        advice: Advice,
        mut ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<()> {
        self.check_open(operation)?;
        ranges.try_for_each(|range| self.advise_mapped(&range, advice)).map_err(|error| {
            Error::io(operation, format!("the advice {advice:?} to be taken"), error).at(&self.path)
        })
    }

    /// Counts the bytes of ranges of the file that lie in cached pages.
    pub(crate) fn residency_of_ranges(
        &self,
        mut ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<Residency> {
        self.check_open("residency")?;
        let failed = |error| Error::io("residency", "to count cached pages", error).at(&self.path);
        ranges.try_fold(Residency::default(), |sum, range| {
            let resident = self.resident_bytes(&range).map_err(failed)?;
            Ok(Residency {
                resident_bytes: sum.resident_bytes + resident as usize, // at most the bytes of the range
                total_bytes: sum.total_bytes + (range.end - range.start) as usize, // mapped, so a usize
            })
        })
    }

    /// The bytes of one range that lie in cached pages: pages, less what sticks out at both ends.
    fn resident_bytes(&self, range: &Range<u64>) -> io::Result<u64> {
        if range.is_empty() {
            return Ok(0);
        }
        let page = page_bytes() as u64;
        let pages = to_pages(range.clone(), page_bytes());
        let cached = |pages: Range<u64>| sys::cached_pages(&self.file, pages);
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
