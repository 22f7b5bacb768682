//! Eviction behind a loop over rows of which each has one part per column, as in Fortran order.
//!
//! The kernel reads up to several MiB around each fault. In such a loop, these bytes contain evicted rows of the same
//! column and of its neighbours, which would be read again for each chunk. Therefore the kernel is advised to read only
//! the page of a fault, and the crate itself reads the next rows of each column ahead.

use super::Mapping;
use super::bands::{Band, Columns, Step};
use super::evict::Patience;
use super::loops::State;
use crate::access::AccessMode;
use crate::error::Result;
use crate::geometry::{ByteRuns, to_pages};
use crate::sys::{Hint, page_bytes};
use std::ops::Range;
use std::sync::atomic::Ordering;

impl Mapping {
    /// Evicts a chunk if it continues a loop over rows with one part in each of several columns. Most of the pages are
    /// dropped later. Returns `false` if the chunk continues no such loop.
    pub(super) fn evict_behind_columns(&self, runs: &ByteRuns, state: &mut State) -> Result<bool> {
        let Some(columns) = Columns::of(runs) else { return Ok(false) };
        let first = self.first_in_file(runs);
        if state.bands.contain(&first, columns) {
            return self.settle_columns(state).map(|()| true);
        }
        match state.bands.advance(&first, first.end - first.start, columns) {
            Some(step) => self.take_step(&step, state).map(|()| true),
            None => Ok(false),
        }
    }

    /// Starts to follow a loop that has evicted its first chunk. Most loops that start with the first row continue with
    /// the second, so the mapping is prepared for the next rows.
    pub(super) fn follow_columns(&self, runs: &ByteRuns, state: &mut State) -> Result<()> {
        let Range { start, end } = self.first_in_file(runs);
        self.start_columns(end, end - start, Columns::of(runs), start == self.file_bytes.start, state)
    }

    /// Prepares the mapping for a loop that will visit the chunk `runs` first, and then the rows after it.
    pub(super) fn expect_columns(&self, runs: &ByteRuns, state: &mut State) -> Result<()> {
        let Range { start, end } = self.first_in_file(runs);
        self.start_columns(start, end - start, Columns::of(runs), true, state)
    }

    /// Starts to follow a loop whose next chunk starts at `start` in the first column, and probably has `len_bytes` in
    /// each column. If the chunk is `expected`, prepares the mapping for it and for the rows after it.
    fn start_columns(
        &self,
        start: u64,
        len_bytes: u64,
        columns: Option<Columns>,
        expected: bool,
        state: &mut State,
    ) -> Result<()> {
        let Some(columns) = columns else { return Ok(()) };
        let data = self.file_bytes.start;
        let end = data.saturating_add(columns.end_of_column(start.saturating_sub(data + 1)));
        if let Some(mut band) = state.bands.start(start..end, columns) {
            self.evict(band.take_evicted(), Patience::Short)?;
        }
        match state.bands.advance(&(start..start), len_bytes, columns).filter(|_| expected) {
            Some(step) => self.take_step(&step, state),
            None => Ok(()),
        }
    }

    /// Drops the pages of all evicted rows.
    pub(super) fn settle_columns(&self, state: &mut State) -> Result<()> {
        state.bands.iter_mut().try_for_each(|band| self.evict(band.take_evicted(), Patience::Long))
    }

    /// Ends the loops: drops the pages of all evicted rows, and of the rows that were read ahead.
    pub(super) fn end_columns(&self, state: &mut State) -> Result<()> {
        self.settle_columns(state)?;
        let mut bands = std::mem::take(&mut state.bands);
        let end = self.file_bytes.end;
        let within = |rows: Range<u64>| rows.start.min(end)..rows.end.min(end);
        bands.iter_mut().try_for_each(|band: &mut Band| self.evict(band.ahead().map(within), Patience::Short))
    }

    fn take_step(&self, step: &Step, state: &mut State) -> Result<()> {
        if self.access() == AccessMode::ReadWrite {
            step.each(&step.write).try_for_each(|rows| self.start_write_back(&rows))?;
        }
        let page = page_bytes() as u64;
        for rows in step.each(&step.drop) {
            // The page that contains the end also contains the next rows.
            let pages = rows.start - rows.start % page..rows.end - rows.end % page;
            if !pages.is_empty() {
                self.evict_whole_folios(&pages, &pages, pages.clone())?;
            }
        }
        if step.read.is_empty() || self.pattern_chosen.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Errors are ignored, because the advice is only a hint.
        if !std::mem::replace(&mut state.advised_random, true) {
            let _ = self.advise(&self.file_bytes, Hint::Random);
        }
        for rows in step.each(&step.read) {
            let _ = self.advise(&to_pages(rows, page_bytes()), Hint::WillNeed);
        }
        Ok(())
    }
}
