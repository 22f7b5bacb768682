//! Eviction: dropping pages from this process and from the page cache.
//!
//! An eviction needs all of these steps (measured on Linux 6.18, ext4):
//! 1. remove the pages from every mapping of this process, because the kernel drops no mapped page;
//! 2. write the range back, because the kernel drops no dirty page;
//! 3. split the large folios that reach across an edge of the range, because the kernel drops only whole folios;
//! 4. ask the kernel to drop the range, and repeat this if a page was busy.

use super::{Mapping, REGISTRY};
use crate::access::AccessMode;
use crate::error::{Error, Result};
use crate::geometry::to_pages;
use crate::io::drop_cached_behind;
use crate::sys::{self, Left, Residency, page_bytes};
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How much time an eviction may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Makes several attempts within a few milliseconds, until no page of the range is left. Splits the folios at both
    /// edges, so that exactly the range is dropped.
    Long,
    /// Makes two attempts without a pause. Splits the folios at both edges. Pages that are busy stay.
    Short,
    /// Sends one request to the kernel, and ignores errors. The request also covers the 2 MiB before the range, to drop
    /// pages that were busy at the previous request. A folio that crosses the end of the range stays until the next
    /// request.
    None,
}

/// An eviction pauses before each attempt for one of these times. The kernel cannot split or drop a folio while one of
/// the kernel's own lists refers to the folio, for example a per-CPU list. About one eviction in a thousand needs a
/// second attempt, and about one in ten thousand takes several milliseconds (measured under load).
const PAUSES: [Duration; 7] = {
    let micros = Duration::from_micros;
    [micros(0), micros(0), micros(250), micros(500), micros(1000), micros(2000), micros(4000)]
};

/// The number of attempts of [`Patience::Short`]. [`Patience::Long`] also makes only this many attempts if another
/// process has probably mapped the pages.
const SHORT_ATTEMPTS: usize = 2;

/// How long an eviction waits for pages that are being read. If reading takes longer, the pages stay in the page cache.
const MAX_READ_WAIT: Duration = Duration::from_secs(2);

impl Mapping {
    /// Writes ranges of the file back, and drops their pages from this process and from the page cache. Ranges are
    /// rounded outwards to pages. No data is lost: the changed pages of a copy-on-write mapping stay.
    pub(crate) fn evict(&self, ranges: impl Iterator<Item = Range<u64>>, patience: Patience) -> Result<()> {
        self.check_intact("evict")?;
        let mut ranges = ranges.map(|range| to_pages(range, page_bytes())).filter(|range| !range.is_empty());
        ranges.try_for_each(|pages| self.evict_pages(&pages, patience))
    }

    fn evict_pages(&self, pages: &Range<u64>, patience: Patience) -> Result<()> {
        let failed = |error| self.not_dropped(error);
        self.release_everywhere(pages)?;
        if self.in_memory {
            return Ok(());
        }
        // The range is written back even if this mapping is read-only, because another mapping may have stored to the
        // file.
        self.write_back(pages)?;
        match patience {
            Patience::None => {
                drop_cached_behind(&self.file, pages, self.file_bytes.start);
                Ok(())
            }
            Patience::Short => self.drop_clean_pages(pages, &PAUSES[..SHORT_ATTEMPTS]).map_err(failed),
            Patience::Long => self.drop_clean_pages(pages, &PAUSES).map_err(failed),
        }
    }

    /// Evicts `pages`, which consist of whole folios. Removes the pages of `around` from every mapping of this process,
    /// and asks the kernel once to drop the pages of `dropped`.
    pub(super) fn evict_whole_folios(
        &self,
        around: &Range<u64>,
        pages: &Range<u64>,
        dropped: Range<u64>,
    ) -> Result<()> {
        self.release_everywhere(around)?;
        self.write_back(pages)?;
        self.drop_unmapped(dropped)
    }

    /// Asks the kernel once to drop pages from the page cache. Pages that are dirty, or that a process has mapped, stay.
    pub(super) fn drop_unmapped(&self, pages: Range<u64>) -> Result<()> {
        sys::drop_cached(&self.file, pages).map_err(|error| self.not_dropped(error))
    }

    fn not_dropped(&self, error: io::Error) -> Error {
        Error::io("evict", "to drop pages", error).at(&self.path)
    }

    /// Removes pages from every mapping of this process.
    fn release_everywhere(&self, pages: &Range<u64>) -> Result<()> {
        let failed = |error| self.not_dropped(error);
        let siblings = REGISTRY.on_file(self.id);
        siblings.iter().try_for_each(|mapping| mapping.release_pages(pages)).map_err(failed)?;
        if self.in_memory {
            return Ok(());
        }
        siblings.iter().try_for_each(|mapping| mapping.release_unchanged(pages)).map_err(failed)
    }

    /// Adds the pages of a range to this process's page table. Returns `false` if the system refuses, or if the file was
    /// truncated.
    pub(crate) fn populate(&self, file_range: &Range<u64>) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.populate(self.local(file_range)).is_ok())
    }

    /// Asks the kernel to remove the pages of a range from this process's page table. The pages stay in the page cache.
    /// Errors are ignored.
    pub(crate) fn release(&self, file_range: &Range<u64>) {
        let _ = self.release_pages(&to_pages(file_range.clone(), page_bytes()));
    }

    /// Removes pages from this process's page table. A later access maps them again from the file.
    #[allow(unsafe_code)]
    fn release_pages(&self, pages: &Range<u64>) -> io::Result<()> {
        let _no_replacement = sys::fault::close_gate();
        // Pages of zeros that replaced faulted pages are private, like the changed pages of a copy-on-write mapping.
        // Dropping them would change bytes while borrows of them exist.
        if self.access() == AccessMode::CopyOnWrite || self.check_intact("evict").is_err() {
            return Ok(());
        }
        let local = self.local(pages);
        match &self.memory {
            // SAFETY: the mapping is shared, and no page of it was replaced (checked above; the closed gate prevents it
            // from now on). So the file contains the content of the pages, and references into them read the same bytes
            // again.
            Some(memory) if !local.is_empty() => unsafe { memory.release(local) },
            _ => Ok(()),
        }
    }

    /// Removes the unchanged pages of a copy-on-write mapping from this process's page table. Only the kernel can do so
    /// without losing changed pages. It removes an unchanged page only if no shared mapping of this process maps the
    /// page.
    fn release_unchanged(&self, pages: &Range<u64>) -> io::Result<()> {
        let local = self.local(pages);
        match &self.memory {
            Some(memory) if self.access() == AccessMode::CopyOnWrite && !local.is_empty() => {
                memory.page_out(local)
            }
            _ => Ok(()),
        }
    }

    /// Repeats steps 3 and 4 of an eviction, with the given pauses, until no page is left.
    fn drop_clean_pages(&self, pages: &Range<u64>, pauses: &[Duration]) -> io::Result<()> {
        let probably_held = self.held_elsewhere.load(Ordering::Relaxed);
        for pause in if probably_held { &pauses[..SHORT_ATTEMPTS] } else { pauses } {
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

    /// Does steps 3 and 4 of an eviction once.
    fn split_and_drop(&self, pages: &Range<u64>) -> io::Result<()> {
        let page = page_bytes() as u64;
        if pages.start > 0 {
            self.split_folio(pages.start - page..pages.start, pages.start..pages.start + page)?;
        }
        self.split_folio(pages.end..pages.end + page, pages.end - page..pages.end)?;
        sys::drop_cached(&self.file, pages.clone())
    }

    /// Waits for pages that are still being read, for example by a prefetch. The kernel locks such pages and does not
    /// drop them. Returns `false` if no page of the range is in the page cache.
    fn wait_for_reads(&self, pages: &Range<u64>) -> io::Result<bool> {
        let started = Instant::now();
        let mut pause = Duration::from_micros(50);
        loop {
            match self.page_counter.left(&self.file, pages.clone())? {
                Left::Nothing => return Ok(false),
                Left::BeingRead if started.elapsed() < MAX_READ_WAIT => std::thread::sleep(pause),
                Left::BeingRead | Left::Settled => return Ok(true),
            }
            pause = (pause * 2).min(Duration::from_millis(5));
        }
    }

    /// If one folio may contain both pages, reclaims only the `inner` page. This splits the folio.
    fn split_folio(&self, outer: Range<u64>, inner: Range<u64>) -> io::Result<()> {
        let both = outer.start.min(inner.start)..outer.end.max(inner.end);
        // A process that neither owns the file nor may write it cannot reclaim a single page. For such a process, a
        // folio that reaches across the edge stays, and only whole folios are dropped.
        match self.page_counter.resident_pages(&self.file, both)? {
            Residency::Known(0 | 1) => Ok(()),
            Residency::Known(_) | Residency::Unknown => sys::reclaim_page(&self.file, inner),
        }
    }
}
