//! Eviction behind a loop: write-back and dropping overlap with the loop.
//!
//! A loop that evicts each chunk when it has finished the chunk would wait for the disk each time, and would split the
//! folios that two chunks share. Therefore a chunk that continues a loop ([`Courses`](super::course::Courses)) first
//! goes to a [`Trail`](super::trail::Trail), and its write-back starts. The pages of the chunk are dropped when the
//! loop has evicted [`TRAIL_BYTES`] more bytes, or when [`Mapping::settle`] is called.
//!
//! The kernel also reads pages around each fault. Some of these pages were evicted before, and the loop never visits
//! some others. No hint to the kernel prevents this completely. Therefore the crate regularly counts the pages in the
//! page cache. If the page cache contains too many pages of the file, the crate drops the pages that no process has
//! mapped.

use super::Mapping;
use super::bands::Columns;
use super::course::Next;
use super::evict::Patience;
use super::loops::State;
use super::trail::{PIECE_BYTES, Piece};
use crate::access::AccessMode;
use crate::error::Result;
use crate::geometry::{ByteRuns, to_pages};
use crate::sys::{self, Hint, Residency, page_bytes};
use std::iter::once;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// The size of the evicted pages that wait to be dropped, while their write-back is in progress. With 16 MiB,
/// write-back overlaps with the loop for chunks of any size.
const TRAIL_BYTES: u64 = 16 << 20;

/// The maximum size of the evicted pages that wait to be dropped. Large chunks and scattered chunks reach it.
const MAX_TRAIL_BYTES: u64 = 1 << 30;

/// The number of bytes on each side of an evicted range that a fault may have mapped again. At a fault, the kernel also
/// maps the pages near the faulting page that are in the page cache, by default 64 KiB.
const MAPPED_AROUND_BYTES: u64 = 64 << 10;

/// The maximum number of unexpected bytes in the page cache, besides a piece of the trail for each loop. Bytes are
/// unexpected if they do not wait for write-back, do not belong to the loop's next chunks, and were not in the page cache
/// before the loop.
const MAX_EXTRA_BYTES: u64 = 8 << 20;

/// The number of bytes that the kernel may have read after the end of the bytes for which the mapping was prepared.
const READ_AHEAD_BYTES: u64 = 32 << 20;

/// The pages in the page cache are counted each time when a loop has evicted at least this many bytes, and at least one
/// sixteenth of the unexpected bytes that are allowed.
const CHECKED_BYTES: u64 = 2 << 20;

/// During one pass over an array, the pages in the page cache are counted at most this many times. The time of a count
/// is proportional to the size of the array: 0.05 ms for 1 GiB with `cachestat`, and 5 ms with `mincore`.
const CHECKS: u64 = 1024;

/// The size of the largest array whose pages are counted with `mincore`.
const MAX_SLOWLY_COUNTED_BYTES: u64 = 8 << 30;

/// If the kernel reads at least this many bytes around a fault, and the loop visits chunks in random order, the crate
/// advises the kernel to read only the huge page that contains the fault.
const LARGE_READ_AROUND: u64 = 2 << 20;

/// A chunk that a loop has evicted.
struct Chunk {
    /// The total size in bytes of all pages that contain bytes of the chunk.
    page_bytes: u64,
    /// Whether the chunk consists of several parts that are not neighbours in the file.
    is_scattered: bool,
    /// Whether the chunk fills less than half of its pages.
    shares_pages: bool,
}

impl Mapping {
    /// Evicts bytes of an open mapping. If the bytes continue a loop, or fill less than half of their pages, this
    /// function only starts their write-back. Their pages are dropped later, at the latest when
    /// [`settle`](Self::settle) is called. If all of the bytes were evicted before and still wait to be dropped, the
    /// pages of all waiting bytes are dropped now.
    pub(crate) fn evict_behind(&self, runs: &ByteRuns) -> Result<()> {
        self.check_usable("evict")?;
        if runs.run_bytes() == 0 {
            return Ok(());
        }
        if runs.levels().is_empty() && self.loops.extend(&self.first_in_file(runs)) {
            return Ok(());
        }
        let ranges = self.parts_in_file(runs.clone());
        let Some(mut state) = self.loops.state().filter(|_| !self.in_memory) else {
            return self.evict(ranges, Patience::Short);
        };
        let (first, all) = (self.first_in_file(runs), self.file_bytes());
        if ranges.clone().eq(once(all.clone())) {
            self.read_around_again(&mut state);
            *state = State::default();
            return self.evict(once(all), Patience::Long);
        }
        let chunk = Chunk::new(runs, &first, ranges.clone());
        if state.cached_before.is_none() {
            let cached = self.cached_bytes(&[self.pages()]);
            state.cached_before = cached.map(|cached| cached.saturating_sub(chunk.page_bytes));
        }
        if self.evict_behind_columns(runs, &mut state)? {
            return self.limit_cache(&chunk, &mut state);
        }
        if ranges.clone().all(|range| state.trail.contains(&range)) {
            return self.drop_trail(&mut state);
        }
        let (is_expected, next) = state.courses.advance(&first, &all);
        if is_expected || chunk.shares_pages {
            // The next rows probably share pages with these rows.
            ranges.for_each(|range| state.trail.push(&range, page_bytes()));
            self.advance_trail(&chunk, &mut state)?;
        } else {
            self.evict(ranges, Patience::Long)?;
        }
        self.follow_columns(runs, &mut state)?;
        if !chunk.is_scattered {
            self.prepare_for(&next, &mut state);
        }
        self.limit_cache(&chunk, &mut state)
    }

    /// Prepares the mapping for a loop that will visit rows in ascending order. `first` is the first chunk. Errors
    /// are ignored, because the later evictions report them.
    pub(crate) fn expect_ascending(&self, first: &ByteRuns) {
        let Some(mut state) = self.loops.state().filter(|_| !self.in_memory) else { return };
        if first.levels().is_empty() {
            let rows = self.first_in_file(first).start..self.file_bytes.end;
            let next = state.courses.start_ascending(&rows);
            self.prepare_for(&next, &mut state);
        } else {
            let _ = self.expect_columns(first, &mut state);
        }
    }

    /// Drops all pages that were evicted and are still in the page cache, because they wait for write-back.
    pub(crate) fn settle(&self) -> Result<()> {
        match self.loops.state() {
            Some(mut state) => self.drop_trail(&mut state),
            None => Ok(()),
        }
    }

    /// Starts reading ranges of the file into the page cache. The pages count as pages that were in the page cache
    /// before the loop.
    pub(crate) fn prefetch(&self, ranges: impl Iterator<Item = Range<u64>>) -> Result<()> {
        if let Some(mut state) = self.loops.state() {
            state.cached_before = None;
        }
        self.prefetch_ranges(ranges)
    }

    /// Ends a loop: drops the evicted pages that wait for write-back, and the pages that were read ahead for the loop.
    pub(crate) fn end_loop(&self) -> Result<()> {
        let Some(mut state) = self.loops.state() else { return Ok(()) };
        let end = self.file_bytes.end;
        let ahead = state.courses.ahead().into_iter();
        let ahead = ahead.map(|range| range.start..range.end.saturating_add(READ_AHEAD_BYTES).min(end));
        self.drop_trail(&mut state)?;
        self.evict(ahead, Patience::Short)?;
        self.end_columns(&mut state)
    }

    fn drop_trail(&self, state: &mut State) -> Result<()> {
        self.read_around_again(state);
        while let Some(piece) = state.trail.pop_beyond(0) {
            self.evict(piece.pages(page_bytes()), Patience::Long)?;
        }
        self.settle_columns(state)
    }

    /// Starts the write-back of the 2 MiB pieces to which the loop will add no more bytes, and drops the oldest pieces.
    fn advance_trail(&self, chunk: &Chunk, state: &mut State) -> Result<()> {
        let is_written = self.access() == AccessMode::ReadWrite;
        while let Some(piece) = state.trail.next_to_write(&self.file_bytes) {
            if is_written {
                piece.pages(page_bytes()).try_for_each(|pages| self.start_write_back(&pages))?;
            }
        }
        // Parts of a piece can return to the trail, so each piece is removed at most once.
        for _ in 0..state.trail.len() {
            let Some(piece) = state.trail.pop_beyond(chunk.trail_limit(is_written, state.courses.loops()))
            else {
                break;
            };
            if chunk.is_scattered {
                // The next rows probably need the pages that the piece shares with them.
                self.evict(piece.own_pages(), Patience::Short)?;
                piece.shared_bytes().for_each(|bytes| state.trail.push(&bytes, page_bytes()));
            } else {
                self.drop_piece(&piece, state)?;
            }
        }
        Ok(())
    }

    /// Waits for the write-back of a piece of the trail, and drops the pages of the piece.
    fn drop_piece(&self, piece: &Piece, state: &mut State) -> Result<()> {
        let is_complete = piece.is_complete(&self.file_bytes);
        for pages in piece.pages(page_bytes()) {
            if !is_complete {
                self.evict(once(pages), Patience::Short)?;
                continue;
            }
            let around = pages.start.saturating_sub(MAPPED_AROUND_BYTES)..pages.end + MAPPED_AROUND_BYTES;
            // When the piece before this one in the file was dropped, a folio of it may have been in use. Drop that
            // folio now.
            let reach = if state.dropped_to == pages.start { PIECE_BYTES } else { 0 };
            state.dropped_to = pages.end;
            let dropped = pages.start.saturating_sub(reach)..pages.end;
            self.evict_whole_folios(&around, &pages, dropped)?;
        }
        Ok(())
    }

    /// Prepares the mapping for the place where the loop will probably continue. Errors are ignored, because the advice
    /// to the kernel is only a hint.
    fn prepare_for(&self, next: &Next, state: &mut State) {
        if self.pattern_chosen.load(Ordering::Relaxed) {
            return;
        }
        let (are_random, take_turns) = (state.courses.are_random(), state.courses.take_turns());
        if !are_random && !take_turns {
            self.read_around_again(state);
        } else if state.advised_random || take_turns || self.reads_much_around(state) {
            self.read_single_huge_pages(state);
            return;
        }
        match next {
            Next::Unchanged => {}
            // With huge pages, the kernel reads only the huge page that contains the fault, and pages after this huge
            // page. So the kernel does not read evicted rows again, and there are fewer faults.
            Next::Ascending { ahead, behind } => {
                let _ = self.advise(ahead, Hint::HugePages);
                let _ = self.advise(behind, Hint::NoHugePages);
            }
            Next::Chunk(bytes) => _ = self.advise(bytes, Hint::WillNeed),
        }
    }

    /// Returns whether the kernel reads at least 2 MiB around a fault.
    fn reads_much_around(&self, state: &mut State) -> bool {
        *state.read_around.get_or_insert_with(|| sys::read_around(&self.file)) >= LARGE_READ_AROUND
    }

    /// Advises the kernel to read only the huge page that contains a fault. Errors are ignored, because the advice is
    /// only a hint.
    fn read_single_huge_pages(&self, state: &mut State) {
        if !std::mem::replace(&mut state.advised_random, true) {
            let _ = self.advise(&self.file_bytes, Hint::Random);
            let _ = self.advise(&self.file_bytes, Hint::HugePages);
        }
    }

    /// Withdraws the advice that [`read_single_huge_pages`](Self::read_single_huge_pages) has given to the kernel. If the caller
    /// has chosen a pattern meanwhile, the caller's pattern stays.
    fn read_around_again(&self, state: &mut State) {
        let was_advised = std::mem::take(&mut state.advised_random);
        if was_advised && !self.pattern_chosen.load(Ordering::Relaxed) {
            let _ = self.advise(&self.file_bytes, Hint::Normal);
        }
    }

    /// Counts the pages in the page cache that the loop will not visit next. If there are too many, drops the evicted
    /// pages that wait for write-back, and the pages that the kernel has read around the loop's chunks. Pages that a
    /// process has mapped stay.
    fn limit_cache(&self, chunk: &Chunk, state: &mut State) -> Result<()> {
        let extra = match chunk.is_scattered {
            true => MAX_TRAIL_BYTES,
            false => MAX_EXTRA_BYTES + state.courses.loops() * PIECE_BYTES,
        };
        state.unchecked_bytes += chunk.page_bytes;
        if state.unchecked_bytes < CHECKED_BYTES.max(self.len_bytes() / CHECKS).max(extra / 16) {
            return Ok(());
        }
        state.unchecked_bytes = 0;
        let gaps = state.courses.unexpected(&self.pages());
        let (Some(cached), Some(before)) = (self.cached_bytes(&gaps), state.cached_before) else {
            return Ok(());
        };
        let before = before.min(cached);
        state.cached_before = Some(before);
        let limit = before + state.trail.page_bytes() + extra + chunk.page_bytes;
        if cached <= limit {
            return Ok(());
        }
        while let Some(piece) = state.trail.pop_beyond(0) {
            self.drop_piece(&piece, state)?;
        }
        gaps.iter().try_for_each(|gap| self.drop_unmapped(gap.clone()))?;
        if let Some(left) = self.cached_bytes(&gaps).filter(|&left| left > limit) {
            // Another process has probably mapped these pages. The loop does not try to drop them again.
            state.cached_before = Some(left);
        }
        Ok(())
    }

    /// Returns how many bytes of the ranges are in the page cache, or `None` if the number is unknown or takes too long
    /// to count.
    fn cached_bytes(&self, ranges: &[Range<u64>]) -> Option<u64> {
        if self.len_bytes() > MAX_SLOWLY_COUNTED_BYTES && !self.page_counter.is_fast(&self.file) {
            return None;
        }
        ranges.iter().try_fold(0, |sum, range| {
            match self.page_counter.resident_pages(&self.file, range.clone()) {
                Ok(Residency::Known(pages)) => Some(sum + pages * page_bytes() as u64),
                _ => None,
            }
        })
    }

    fn len_bytes(&self) -> u64 {
        self.file_bytes.end - self.file_bytes.start
    }
}

impl Chunk {
    /// Returns the chunk that consists of these runs. `ranges` are the parts of the file that contain the runs, and
    /// `first` is the first run.
    fn new(runs: &ByteRuns, first: &Range<u64>, ranges: impl Iterator<Item = Range<u64>>) -> Self {
        let page = page_bytes();
        let pages_of = |range| {
            let pages = to_pages(range, page);
            pages.end - pages.start
        };
        // Runs of a view can overlap.
        let len_bytes = (runs.count_runs() as u64).saturating_mul(runs.run_bytes() as u64);
        let (page_bytes, ranges) = match Columns::of(runs) {
            // The number of pages of another column differs by at most one.
            Some(columns) => (pages_of(first.clone()) * columns.count(), columns.count()),
            None => ranges.fold((0, 0), |(sum, count), range| (sum + pages_of(range), count + 1)),
        };
        // A contiguous chunk shares at most two pages with other rows.
        let shares_pages = page_bytes / 2 > len_bytes.saturating_add(2 * page as u64);
        Self { page_bytes, is_scattered: ranges > 1 || shares_pages, shares_pages }
    }

    /// Returns the maximum size in bytes of the evicted pages that wait to be dropped. The pages of a scattered chunk
    /// wait longer, because the next chunk probably needs them again. Large chunks wait longer, because the write-back
    /// of a chunk takes as long as the loop needs for the next chunk.
    fn trail_limit(&self, is_written: bool, loops: u64) -> u64 {
        match (self.is_scattered, is_written) {
            (true, _) => (2 * self.page_bytes).clamp(TRAIL_BYTES, MAX_TRAIL_BYTES),
            (false, true) => self.page_bytes.clamp(TRAIL_BYTES, MAX_TRAIL_BYTES),
            // No page needs write-back, but each loop has evicted only a part of its last piece.
            (false, false) => (loops + 1) * PIECE_BYTES,
        }
    }
}
