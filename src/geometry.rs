//! Pure arithmetic between shapes, rows, bytes and pages. Every product and sum is checked; nothing here does I/O.

use crate::error::{Error, ErrorKind, Result};
use ndarray::Order;
use std::ops::{Bound, Range, RangeBounds};

/// Where the elements of an array lie in its file, fixed when the array is opened.
///
/// Invariants:
/// 1. the product of the non-zero lengths of `shape`, times `item_bytes`, fits `isize` (so every sum below fits `usize`);
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

    pub(crate) fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// The length of axis 0. An array of zero dimensions is one row.
    pub(crate) fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// A range of rows without what lies past the end; empty where it is inverted.
    pub(crate) fn clamp_rows(&self, rows: impl RangeBounds<usize>) -> Range<usize> {
        clamp(rows, self.rows())
    }

    /// The bytes of a clamped range of rows, relative to the start of the data.
    pub(crate) fn row_runs(&self, rows: Range<usize>) -> ByteRuns {
        let (all, wanted) = (self.rows(), rows.len());
        if wanted == 0 || self.total_bytes == 0 {
            return ByteRuns::EMPTY;
        }
        let row_bytes = self.total_bytes / all;
        if wanted == all || self.is_row_major() {
            return ByteRuns::one(rows.start * row_bytes, wanted * row_bytes);
        }
        let columns = Axis { count: row_bytes / self.item_bytes, step_bytes: all * self.item_bytes };
        ByteRuns::new(rows.start * self.item_bytes, wanted * self.item_bytes, vec![columns])
    }

    /// Whether rows lie one behind the other.
    fn is_row_major(&self) -> bool {
        matches!(self.order, Order::RowMajor) || self.shape.iter().filter(|&&len| len != 1).count() <= 1
    }
}

/// `range` as indices into an axis of this length.
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

/// One level of repetition of a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    count: usize,
    step_bytes: usize,
}

/// Equal runs of bytes at regular distances: what a range of rows, or any view, covers in memory. Iterates in ascending
/// order of the outermost axis.
#[derive(Clone, Debug)]
pub(crate) struct ByteRuns {
    start: usize,
    run_bytes: usize,
    /// Outermost first, steps descending; counts above one.
    axes: Vec<Axis>,
    /// The index of the next run along each axis; `None` when there is no next.
    next: Option<Vec<usize>>,
}

impl ByteRuns {
    const EMPTY: Self = Self { start: 0, run_bytes: 0, axes: Vec::new(), next: None };

    /// One run.
    pub(crate) fn one(start: usize, run_bytes: usize) -> Self {
        Self::new(start, run_bytes, Vec::new())
    }

    fn new(start: usize, run_bytes: usize, axes: Vec<Axis>) -> Self {
        let next = (run_bytes > 0).then(|| vec![0; axes.len()]);
        let mut runs = Self { start, run_bytes, axes, next };
        runs.join(0);
        runs
    }

    /// What a view covers: element `[0, 0, ..]` lies at byte `first`, `strides` are in elements and may be negative.
    /// Returns the runs relative to the lowest byte that the view covers, and how far `first` lies above it.
    pub(crate) fn of_view(shape: &[usize], strides: &[isize], item_bytes: usize) -> (Self, usize) {
        if shape.contains(&0) || item_bytes == 0 {
            return (Self::EMPTY, 0);
        }
        let mut above = 0;
        let mut axes = Vec::with_capacity(shape.len());
        for (&count, &stride) in shape.iter().zip(strides) {
            let step_bytes = stride.unsigned_abs() * item_bytes;
            if stride < 0 {
                above += (count - 1) * step_bytes;
            }
            if count > 1 && stride != 0 {
                axes.push(Axis { count, step_bytes });
            }
        }
        axes.sort_by_key(|axis| std::cmp::Reverse(axis.step_bytes));
        (Self::new(0, item_bytes, axes), above)
    }

    /// The same bytes, and what lies in gaps that hold no whole page: the same pages, in fewer runs.
    pub(crate) fn joined_to_pages(mut self, page_bytes: usize) -> Self {
        self.join(page_bytes);
        self
    }

    /// Joins the innermost runs for as long as they touch, or follow each other at no more than `reach_bytes`.
    fn join(&mut self, reach_bytes: usize) {
        while let Some(&inner) = self.axes.last() {
            if inner.step_bytes > self.run_bytes.max(reach_bytes) {
                break;
            }
            self.run_bytes = (self.run_bytes).max((inner.count - 1) * inner.step_bytes + self.run_bytes);
            self.axes.pop();
            if let Some(next) = &mut self.next {
                next.pop();
            }
        }
    }

    /// The same runs, further up.
    pub(crate) fn moved_up(mut self, bytes: usize) -> Self {
        self.start += bytes;
        self
    }

    /// The bytes from the first run to the end of the last.
    pub(crate) fn hull(&self) -> Range<usize> {
        let reach: usize = self.axes.iter().map(|axis| (axis.count - 1) * axis.step_bytes).sum();
        self.start..self.start + reach + self.run_bytes
    }

    /// How many runs there are in all.
    #[cfg(test)]
    pub(crate) fn count_runs(&self) -> usize {
        self.axes.iter().map(|axis| axis.count).product()
    }
}

impl Iterator for ByteRuns {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let index = self.next.as_mut()?;
        let offset: usize = index.iter().zip(&self.axes).map(|(&at, axis)| at * axis.step_bytes).sum();
        let start = self.start + offset;
        let advanced = index.iter_mut().zip(&self.axes).rev().any(|(at, axis)| {
            *at += 1;
            let within = *at < axis.count;
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

/// The smallest range of whole pages around a range of bytes, no further than `u64` reaches.
pub(crate) fn to_pages(bytes: Range<u64>, page_bytes: usize) -> Range<u64> {
    let mask = page_bytes as u64 - 1;
    if bytes.is_empty() {
        return bytes.start..bytes.start;
    }
    bytes.start & !mask..bytes.end.checked_add(mask).map_or(u64::MAX, |end| end & !mask)
}

/// Merges ranges that touch or overlap when they follow each other.
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
    fn rows_past_the_end_and_inverted_ranges() {
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
    fn runs_closer_than_a_page_are_one_for_pages() {
        let (runs, _) = ByteRuns::of_view(&[1000], &[10], 4);
        assert_eq!(runs.count_runs(), 1000);
        assert_eq!(bytes(runs.joined_to_pages(4096)), [0..39_964]);
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

    proptest! {
        /// The runs of any sliced, permuted, inverted view are exactly the bytes of its elements.
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
