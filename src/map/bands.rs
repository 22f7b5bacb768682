//! [`Bands`]: the loops over rows of which each has one part per column, as in Fortran order. This module does no I/O.

use crate::geometry::ByteRuns;
use crate::sys::page_bytes;
use std::collections::VecDeque;
use std::ops::Range;

/// The maximum number of loops over one array that are followed at the same time.
const MAX_BANDS: usize = 16;

/// The number of bytes of all columns together for which the mapping is prepared, and the number of evicted bytes that
/// wait for write-back. Each column has at least one page.
const WINDOW_BYTES: u64 = 32 << 20;

/// The maximum number of bytes of one column for which the mapping is prepared.
const MAX_COLUMN_BYTES: u64 = 2 << 20;

/// The columns of an array: ranges of the file that repeat at equal distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    count: u64,
    step_bytes: u64,
}

/// A loop that visits rows in ascending order. Each chunk of rows has one run of bytes in each column. All offsets are
/// those of the first column.
#[derive(Debug)]
pub(super) struct Band {
    columns: Columns,
    /// The rows that the loop has evicted.
    evicted: Range<u64>,
    /// The write-back of the rows before this offset has started.
    writing_to: u64,
    /// The pages of the rows before this offset were dropped.
    dropped_to: u64,
    /// The rows before this offset were read ahead.
    read_to: u64,
    /// The end of the first column.
    end: u64,
}

/// What to do after a loop has evicted a chunk. All ranges are bytes of the first column.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    columns: Columns,
    /// The pages of these rows can be dropped.
    pub(super) drop: Range<u64>,
    /// The write-back of these rows should start.
    pub(super) write: Range<u64>,
    /// The loop will visit these rows next.
    pub(super) read: Range<u64>,
}

/// The loops over one array. The loop that was active last is at the end of the list.
#[derive(Debug, Default)]
pub(super) struct Bands(VecDeque<Band>);

impl Columns {
    /// Returns the columns of a chunk, or `None` if the chunk does not have one run of bytes in each of several columns,
    /// or if neighbouring columns share pages.
    pub(super) fn of(runs: &ByteRuns) -> Option<Self> {
        let [level] = runs.levels() else { return None };
        let is_apart = level.step_bytes >= runs.run_bytes().saturating_add(page_bytes());
        is_apart.then_some(Self { count: level.count as u64, step_bytes: level.step_bytes as u64 })
    }

    pub(super) fn count(self) -> u64 {
        self.count
    }

    /// Returns the end of the column that contains the byte at this offset, relative to the start of an array.
    pub(super) fn end_of_column(self, offset: u64) -> u64 {
        (offset / self.step_bytes + 1).saturating_mul(self.step_bytes)
    }

    /// Returns the range in each column that corresponds to `range` in the first column.
    pub(super) fn each(self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Clone {
        // A chunk has bytes in each column, so the offsets fit. A range that was read ahead can end after the file.
        let moved = move |at: u64, column| at.saturating_add(self.step_bytes * column);
        (0..self.count).map(move |column| moved(range.start, column)..moved(range.end, column))
    }

    /// Returns the number of bytes of each column for which the mapping is prepared.
    fn window_bytes(self) -> u64 {
        let page = page_bytes() as u64;
        (WINDOW_BYTES / self.count).clamp(page, MAX_COLUMN_BYTES).next_multiple_of(page)
    }
}

impl Step {
    /// Returns the rows of each column that correspond to `rows` in the first column. Returns nothing if there are none.
    pub(super) fn each(&self, rows: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        (!rows.is_empty()).then(|| self.columns.each(rows.clone())).into_iter().flatten()
    }
}

impl Band {
    /// Forgets the evicted rows, whose pages the caller drops, and returns them for each column.
    pub(super) fn take_evicted(&mut self) -> impl Iterator<Item = Range<u64>> + Clone + use<> {
        let Range { start, end } = self.evicted;
        (self.evicted.start, self.writing_to, self.dropped_to) = (end, end, end);
        self.columns.each(start..end)
    }

    /// Returns the rows that were read ahead, for each column.
    pub(super) fn ahead(&self) -> impl Iterator<Item = Range<u64>> + Clone + use<> {
        self.columns.each(self.evicted.end..self.read_to.max(self.evicted.end))
    }

    /// Returns what to do. The next chunk will probably have `len_bytes` in each column.
    fn step(&mut self, len_bytes: u64) -> Step {
        let (end, window) = (self.evicted.end, self.columns.window_bytes());
        let mut step = Step { columns: self.columns, drop: 0..0, write: 0..0, read: 0..0 };
        if end - self.writing_to >= window {
            step.drop = self.dropped_to..self.writing_to;
            step.write = self.writing_to..end;
            (self.dropped_to, self.writing_to) = (self.writing_to, end);
        }
        let ahead = |bytes: u64| end.saturating_add(bytes).min(self.end);
        if self.read_to < ahead(len_bytes.max(window / 2)) {
            let read_to = ahead(len_bytes.max(window));
            step.read = self.read_to.max(end)..read_to;
            self.read_to = read_to;
        }
        step
    }
}

impl Bands {
    /// Records that a loop has evicted a chunk, if the chunk continues a known loop. `first` is the part of the chunk in
    /// the first column. The next chunk will probably have `len_bytes` in each column. Returns what to do, or `None` if
    /// the chunk continues no loop.
    pub(super) fn advance(&mut self, first: &Range<u64>, len_bytes: u64, columns: Columns) -> Option<Step> {
        let continues = |band: &Band| band.columns == columns && band.evicted.end == first.start;
        let at = self.0.iter().rposition(continues)?;
        let mut band = self.0.remove(at)?;
        band.evicted.end = first.end;
        let step = band.step(len_bytes);
        self.0.push_back(band);
        Some(step)
    }

    /// Returns whether a loop has evicted these rows, and their pages may still wait to be dropped.
    pub(super) fn contain(&self, first: &Range<u64>, columns: Columns) -> bool {
        let holds = |rows: &Range<u64>| rows.start <= first.start && first.end <= rows.end;
        self.0.iter().any(|band| band.columns == columns && holds(&band.evicted))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Band> {
        self.0.iter_mut()
    }

    /// Starts to follow a loop that will visit these rows of the first column. Returns the loop that is no longer
    /// followed, if there are too many.
    pub(super) fn start(&mut self, rows: Range<u64>, columns: Columns) -> Option<Band> {
        let Range { start, end } = rows;
        let evicted = start..start;
        let band = Band { columns, evicted, writing_to: start, dropped_to: start, read_to: start, end };
        let oldest = if self.0.len() == MAX_BANDS { self.0.pop_front() } else { None };
        self.0.push_back(band);
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Returns the columns of an array in Fortran order, and the runs of a range of its rows of 4 bytes.
    fn rows(range: Range<usize>, all: usize, columns: usize) -> ByteRuns {
        let (runs, _) = ByteRuns::of_view(&[range.len(), columns], &[1, all as isize], 4);
        runs.moved_up(range.start * 4)
    }

    #[test]
    fn only_chunks_with_a_part_in_each_of_several_columns_have_columns() {
        assert!(Columns::of(&rows(0..100, 100_000, 3)).is_some());
        assert_eq!(Columns::of(&rows(0..100, 100_000, 1)), None);
        assert_eq!(Columns::of(&rows(0..100, 1000, 3)), None, "neighbouring columns share pages");
        let (blocks, _) = ByteRuns::of_view(&[2, 3, 4], &[MIB as isize, 10_000, 1], 4);
        assert_eq!(Columns::of(&blocks), None);
    }

    #[test]
    fn each_byte_of_a_loop_is_read_written_and_dropped_once_and_in_order() {
        for (all, columns, chunk) in
            [(1 << 20, 64, 4096), (1 << 20, 64, 1 << 18), (90_000, 3000, 87), (5000, 3, 1)]
        {
            let found = Columns::of(&rows(0..chunk, all, columns)).unwrap();
            let (mut bands, end) = (Bands::default(), 4 * all as u64);
            assert!(bands.start(0..end, found).is_none());
            let (mut read, mut written, mut dropped) = (0, 0, 0);
            let next = |to: &mut u64, range: &Range<u64>| {
                assert!(range.is_empty() || range.start == *to, "{range:?} after {to}");
                *to = range.end.max(*to);
            };
            next(&mut read, &bands.advance(&(0..0), 4 * chunk as u64, found).unwrap().read);
            for start in (0..all).step_by(chunk) {
                let bytes = 4 * start as u64..4 * all.min(start + chunk) as u64;
                let step = bands.advance(&bytes, 4 * chunk as u64, found).unwrap();
                next(&mut read, &step.read);
                next(&mut written, &step.write);
                next(&mut dropped, &step.drop);
                assert!(read >= end.min(bytes.end + 4 * chunk as u64), "the next chunk is read ahead");
                assert!(dropped <= written && written <= bytes.end);
                let window = found.window_bytes().max(4 * chunk as u64);
                assert!(read <= bytes.end + window && bytes.end - dropped <= 3 * window);
            }
            assert_eq!(read, end, "nothing after the column is read");
            let left: Vec<_> = bands.iter_mut().flat_map(Band::take_evicted).collect();
            assert_eq!((left.len(), left[0].clone()), (columns, 0..end));
            assert!(bands.iter_mut().flat_map(Band::take_evicted).all(|rows| rows.is_empty()));
        }
    }

    #[test]
    fn a_chunk_elsewhere_continues_no_loop() {
        let columns = Columns::of(&rows(0..10, 100_000, 3)).unwrap();
        let mut bands = Bands::default();
        bands.start(40..400_000, columns);
        assert!(bands.advance(&(80..120), 40, columns).is_none());
        assert!(bands.advance(&(40..80), 40, columns).is_some());
        assert!(bands.contain(&(44..76), columns) && !bands.contain(&(76..84), columns));
        let others = Columns::of(&rows(0..10, 100_000, 4)).unwrap();
        assert!(bands.advance(&(80..120), 40, others).is_none());
        for _ in 1..MAX_BANDS {
            assert!(bands.start(0..400_000, others).is_none());
        }
        let mut oldest = bands.start(0..400_000, others).unwrap();
        assert_eq!(oldest.take_evicted().next(), Some(40..80));
    }
}
