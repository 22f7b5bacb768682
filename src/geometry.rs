//! Converts shapes and rows to ranges of bytes and pages. Every product and sum is checked, or bounded by an invariant.
//! This module does no I/O.

use crate::error::{Error, ErrorKind, Result};
use ndarray::Order;
use std::ops::{Bound, Range, RangeBounds};

/// The layout of an array's elements in its file. The layout never changes after the array was opened.
///
/// Invariants:
/// 1. the product of the non-zero lengths of `shape`, times `item_bytes`, fits `isize` (so every sum below fits
///    `usize`);
/// 2. `total_bytes` is the product of all lengths times `item_bytes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    shape: Vec<usize>,
    order: Order,
    item_bytes: usize,
    total_bytes: usize,
}

impl Geometry {
    pub(crate) fn new(shape: &[usize], order: Order, item_bytes: usize) -> Result<Self> {
        let too_large = || {
            let found = format!("shape {shape:?} with elements of {item_bytes} bytes");
            Error::new(
                ErrorKind::SizeOverflow,
                "size an array",
                format!("at most {} bytes", isize::MAX),
                found,
            )
            .with_remedy("correct the shape")
        };
        let fits = |bytes: &usize| isize::try_from(*bytes).is_ok();
        let span = shape
            .iter()
            .filter(|&&len| len != 0)
            .try_fold(item_bytes.max(1), |product, &len| product.checked_mul(len).filter(fits))
            .ok_or_else(too_large)?;
        let total_bytes = if shape.contains(&0) || item_bytes == 0 { 0 } else { span };
        Ok(Self { shape: shape.to_vec(), order, item_bytes, total_bytes })
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(crate) fn order(&self) -> Order {
        self.order
    }

    pub(crate) fn item_bytes(&self) -> usize {
        self.item_bytes
    }

    pub(crate) fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Returns the length of axis 0. An array of zero dimensions is one row.
    pub(crate) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Limits a range of rows to the rows of the array. An inverted range becomes empty.
    pub(crate) fn clamp_rows(&self, rows: impl RangeBounds<usize>) -> Range<usize> {
        clamp(rows, self.rows())
    }

    /// Returns the bytes of a clamped range of rows, relative to the start of the data.
    pub(crate) fn row_runs(&self, rows: Range<usize>) -> ByteRuns {
        let (all, wanted) = (self.rows(), rows.len());
        if wanted == 0 || self.total_bytes == 0 {
            return ByteRuns::EMPTY;
        }
        let row_bytes = self.total_bytes / all;
        if wanted == all || self.is_row_major() {
            return ByteRuns::one(rows.start * row_bytes, wanted * row_bytes);
        }
        let columns = Level { count: row_bytes / self.item_bytes, step_bytes: all * self.item_bytes };
        ByteRuns::new(rows.start * self.item_bytes, wanted * self.item_bytes, vec![columns])
    }

    /// Returns whether each row is contiguous and directly follows the previous row.
    pub(crate) fn is_row_major(&self) -> bool {
        matches!(self.order, Order::RowMajor) || self.shape.iter().filter(|&&len| len != 1).count() <= 1
    }
}

/// Returns `range` as indices of an axis of length `len`.
pub(crate) fn clamp(range: impl RangeBounds<usize>, len: usize) -> Range<usize> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    let end = end.min(len);
    start.min(end)..end
}

/// One of several nested loops that repeat a run of bytes: `count` repetitions, each `step_bytes` after the previous
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) count: usize,
    pub(crate) step_bytes: usize,
}

/// The panic message if a sum or product of a view's lengths and strides overflows, which ndarray excludes.
const FITS: &str = "ndarray keeps the elements of a view within isize::MAX bytes";

/// Runs of bytes of equal length, repeated at regular distances by nested loops, the [levels](Level). They describe the
/// bytes of a range of rows, or of any view, in memory or in a file.
///
/// A broadcast axis (stride zero) adds no level, because all its indices have the same bytes. The iterator advances the
/// innermost level first.
///
/// Invariant: the end of the last run fits `usize`, so no sum over runs overflows.
#[derive(Clone, Debug)]
pub(crate) struct ByteRuns {
    start: usize,
    run_bytes: usize,
    /// The levels, outermost first, with descending steps. Every count is at least two.
    levels: Vec<Level>,
    /// The index of the next run in each level; `None` if there is no next run.
    next: Option<Vec<usize>>,
}

impl ByteRuns {
    const EMPTY: Self = Self { start: 0, run_bytes: 0, levels: Vec::new(), next: None };

    /// Returns a single run.
    pub(crate) fn one(start: usize, run_bytes: usize) -> Self {
        Self::new(start, run_bytes, Vec::new())
    }

    fn new(start: usize, run_bytes: usize, levels: Vec<Level>) -> Self {
        let next = (run_bytes > 0).then(|| vec![0; levels.len()]);
        Self { start, run_bytes, levels, next }.joined(0)
    }

    /// Returns the bytes of a view, relative to the view's lowest address, and the distance in bytes from that address
    /// to the element `[0, 0, ..]`. `strides` are in elements and may be negative.
    pub(crate) fn of_view(shape: &[usize], strides: &[isize], item_bytes: usize) -> (Self, usize) {
        if shape.contains(&0) || item_bytes == 0 {
            return (Self::EMPTY, 0);
        }
        let (mut above, mut reach) = (0_usize, item_bytes);
        let mut levels = Vec::with_capacity(shape.len());
        for (&count, &stride) in shape.iter().zip(strides) {
            // The stride of an axis of length one has no meaning, and may be any number.
            if count == 1 || stride == 0 {
                continue;
            }
            let step_bytes = stride.unsigned_abs().checked_mul(item_bytes).expect(FITS);
            let spanned = (count - 1).checked_mul(step_bytes).expect(FITS);
            reach = reach.checked_add(spanned).expect(FITS);
            if stride < 0 {
                above += spanned; // at most `reach`
            }
            levels.push(Level { count, step_bytes });
        }
        levels.sort_by_key(|level| std::cmp::Reverse(level.step_bytes));
        (Self::new(0, item_bytes, levels), above)
    }

    /// Joins neighbouring runs if the gap between them contains no whole page. The result touches the same pages.
    pub(crate) fn joined_to_pages(self, page_bytes: usize) -> Self {
        self.joined(page_bytes - 1)
    }

    /// Joins neighbouring runs if the gap between them has at most `max_gap_bytes`. Starts at the innermost level.
    pub(crate) fn joined(mut self, max_gap_bytes: usize) -> Self {
        while let Some(&inner) = self.levels.last() {
            if inner.step_bytes > self.run_bytes.saturating_add(max_gap_bytes) {
                break;
            }
            self.run_bytes += (inner.count - 1) * inner.step_bytes;
            self.levels.pop();
            if let Some(next) = &mut self.next {
                next.pop();
            }
        }
        self
    }

    /// Returns the runs with `bytes` added to each offset.
    pub(crate) fn moved_up(mut self, bytes: usize) -> Self {
        self.start = self.start.checked_add(bytes).expect(FITS);
        self
    }

    /// Returns the range from the start of the first run to the end of the last one.
    pub(crate) fn hull(&self) -> Range<usize> {
        let reach: usize = self.levels.iter().map(|level| (level.count - 1) * level.step_bytes).sum();
        self.start..self.start + reach + self.run_bytes
    }

    /// Returns the length of each run.
    pub(crate) fn run_bytes(&self) -> usize {
        self.run_bytes
    }

    /// Returns the nested loops that repeat the run, outermost first. A single run has no levels.
    pub(crate) fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Returns the number of runs. In a view of sliding windows, runs of bytes overlap, and there can be more runs than
    /// bytes.
    pub(crate) fn count_runs(&self) -> usize {
        let product = |count: usize, level: &Level| count.saturating_mul(level.count);
        self.levels.iter().fold(usize::from(self.run_bytes > 0), product)
    }

    /// Returns the start of the run with this index in the order of iteration.
    pub(crate) fn run_start(&self, index: usize) -> usize {
        let place = |(rest, start): (usize, usize), level: &Level| {
            (rest / level.count, start + rest % level.count * level.step_bytes)
        };
        self.levels.iter().rev().fold((index, self.start), place).1
    }
}

impl Iterator for ByteRuns {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let index = self.next.as_mut()?;
        let offset: usize = index.iter().zip(&self.levels).map(|(&at, level)| at * level.step_bytes).sum();
        let start = self.start + offset;
        let advanced = index.iter_mut().zip(&self.levels).rev().any(|(at, level)| {
            *at += 1;
            let within = *at < level.count;
            if !within {
                *at = 0;
            }
            within
        });
        if !advanced {
            self.next = None;
        }
        Some(start..start + self.run_bytes)
    }
}

/// Returns the smallest range of whole pages that contains a range of bytes. The end is at most `u64::MAX`.
pub(crate) fn to_pages(bytes: Range<u64>, page_bytes: usize) -> Range<u64> {
    let mask = page_bytes as u64 - 1;
    if bytes.is_empty() {
        return bytes.start..bytes.start;
    }
    bytes.start & !mask..bytes.end.checked_add(mask).map_or(u64::MAX, |end| end & !mask)
}

/// Merges each range with the next one if they touch or overlap.
pub(crate) fn merged(
    mut ranges: impl Iterator<Item = Range<u64>> + Clone,
) -> impl Iterator<Item = Range<u64>> + Clone {
    let mut held: Option<Range<u64>> = None;
    std::iter::from_fn(move || {
        loop {
            match (ranges.next(), &mut held) {
                (Some(range), Some(current)) if range.start <= current.end && range.end >= current.start => {
                    *current = current.start.min(range.start)..current.end.max(range.end);
                }
                (Some(range), _) => {
                    if let Some(done) = held.replace(range) {
                        return Some(done);
                    }
                }
                (None, _) => return held.take(),
            }
        }
    })
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of runs that happen to be one")]
mod tests {
    use super::*;
    use ndarray::{Array, IxDyn, ShapeBuilder};
    use proptest::prelude::*;

    fn bytes(runs: ByteRuns) -> Vec<Range<usize>> {
        runs.collect()
    }

    #[test]
    fn sizes_that_overflow_are_refused() {
        for shape in [&[usize::MAX][..], &[usize::MAX, 0], &[1 << 40, 1 << 40], &[isize::MAX as usize, 2]] {
            let error = Geometry::new(shape, Order::C, 4).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SizeOverflow, "{shape:?}");
        }
        assert_eq!(
            Geometry::new(&[isize::MAX as usize], Order::C, 1).unwrap().total_bytes(),
            isize::MAX as usize
        );
    }

    #[test]
    fn sizes_of_empty_and_dimensionless_arrays() {
        assert_eq!(Geometry::new(&[], Order::C, 8).unwrap().total_bytes(), 8);
        assert_eq!(Geometry::new(&[5, 0, 3], Order::F, 8).unwrap().total_bytes(), 0);
        assert_eq!(Geometry::new(&[], Order::C, 8).unwrap().rows(), 1);
    }

    #[test]
    fn rows_after_the_end_and_inverted_ranges() {
        let geometry = Geometry::new(&[10, 2], Order::C, 4).unwrap();
        assert_eq!(geometry.clamp_rows(8..99), 8..10);
        assert_eq!(geometry.clamp_rows(50..), 10..10);
        #[allow(clippy::reversed_empty_ranges)]
        let inverted = 7..3;
        assert!(geometry.clamp_rows(inverted).is_empty());
        assert_eq!(geometry.clamp_rows(..=usize::MAX), 0..10);
        assert_eq!(geometry.clamp_rows((Bound::Excluded(usize::MAX), Bound::Unbounded)), 10..10);
    }

    #[test]
    fn rows_of_fortran_order_are_one_run_per_column() {
        let geometry = Geometry::new(&[10, 3], Order::F, 4).unwrap();
        assert_eq!(bytes(geometry.row_runs(2..5)), [8..20, 48..60, 88..100]);
        assert_eq!(bytes(geometry.row_runs(0..10)), [0..120]);
        let column = Geometry::new(&[10, 1], Order::F, 4).unwrap();
        assert_eq!(bytes(column.row_runs(2..5)), [8..20]);
    }

    #[test]
    fn runs_closer_than_a_page_are_joined_to_pages() {
        let (runs, _) = ByteRuns::of_view(&[1000], &[10], 4);
        assert_eq!(runs.count_runs(), 1000);
        assert_eq!(bytes(runs.joined_to_pages(4096)), [0..39_964]);
        // A gap that is one byte shorter than a page cannot contain a whole page, wherever it starts. A gap as long as
        // a page may contain a whole page.
        let pairs = |step| ByteRuns::of_view(&[3], &[step], 4).0.joined_to_pages(4096).count_runs();
        assert_eq!([1, 100, 1024, 1025, 5000].map(pairs), [1, 1, 1, 3, 3]);
    }

    #[test]
    fn pages_and_merging() {
        assert_eq!(to_pages(5..5, 4096), 5..5);
        assert_eq!(to_pages(4095..4097, 4096), 0..8192);
        assert_eq!(to_pages(u64::MAX - 1..u64::MAX, 4096), u64::MAX - 4095..u64::MAX);
        let ranges = [0..4, 4..8, 6..7, 20..24, 8..12];
        assert_eq!(merged(ranges.into_iter()).collect::<Vec<_>>(), [0..8, 20..24, 8..12]);
        assert_eq!(merged(std::iter::empty()).count(), 0);
    }

    #[test]
    fn an_axis_that_repeats_one_index_is_covered_once() {
        for repeats in [2, 1 << 20, 1 << 40, isize::MAX as usize / 24] {
            for (shape, strides) in [([repeats, 2, 3], [0, 3, 1]), ([2, repeats, 3], [3, 0, 1])] {
                let (runs, above) = ByteRuns::of_view(&shape, &strides, 4);
                assert_eq!((runs.hull(), above, bytes(runs)), (0..24, 0, vec![0..24]));
            }
        }
        // ndarray accepts any stride for an axis of length one.
        let (runs, above) = ByteRuns::of_view(&[1, 3], &[isize::MIN, -2], 4);
        assert_eq!((runs.hull(), above), (0..20, 16));
    }

    proptest! {
        /// The runs of any sliced, permuted or inverted view contain exactly the bytes of its elements.
        #[test]
        fn runs_of_a_view_are_its_elements(
            shape in prop::collection::vec(1_usize..5, 0..4),
            fortran: bool,
            inverted in prop::collection::vec(any::<bool>(), 4),
            steps in prop::collection::vec(1_isize..3, 4),
        ) {
            let array = Array::<u16, IxDyn>::zeros(IxDyn(&shape).set_f(fortran));
            let mut view = array.view();
            for axis in 0..shape.len() {
                view.slice_axis_inplace(ndarray::Axis(axis), ndarray::Slice::new(0, None, steps[axis]));
                if inverted[axis] {
                    view.invert_axis(ndarray::Axis(axis));
                }
            }
            view.reverse_axes();
            let (runs, above) = ByteRuns::of_view(view.shape(), view.strides(), 2);
            let base = view.as_ptr() as usize - above;
            let hull = runs.hull();
            let starts: Vec<_> = (0..runs.count_runs()).map(|index| runs.run_start(index)).collect();
            prop_assert!(starts.iter().copied().eq(runs.clone().map(|run| run.start)));
            let mut covered: Vec<_> = runs.flat_map(|run| run.step_by(2)).map(|byte| base + byte).collect();
            let mut elements: Vec<_> = view.iter().map(|element| std::ptr::from_ref(element) as usize).collect();
            covered.sort_unstable();
            elements.sort_unstable();
            prop_assert_eq!(hull.start + base, elements[0]);
            prop_assert_eq!(hull.end + base, elements[elements.len() - 1] + 2);
            prop_assert_eq!(covered, elements);
        }
    }
}
