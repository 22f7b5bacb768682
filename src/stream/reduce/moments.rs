//! [`Moments`]: exact sums of columns, and optionally of their squares.

use super::lanes::Lanes;
use super::total::{Spread, Total, spread};
use super::{Holes, Part, Reduced};
use crate::stream::stage::Element;
use bytemuck::Pod;
use num_traits::AsPrimitive;

/// The size in bytes of the rows that are copied together to replace NaN, unless one row is larger.
const COPIED_BYTES: usize = 64 << 10;

/// The sums of columns over the rows that one thread has processed.
pub(super) struct Moments {
    sums: Lanes<1, 2>,
    squares: Option<Lanes<2, 3>>,
    /// The number of NaN in each column, if NaN is ignored.
    nans: Option<Vec<usize>>,
}

impl Moments {
    /// The memory of a column's sum.
    pub(super) const SUM_BYTES: usize = Lanes::<1, 2>::COLUMN_BYTES + size_of::<usize>();

    /// The memory of a column's sum and of the sum of its squares.
    pub(super) const SQUARES_BYTES: usize = Self::SUM_BYTES + Lanes::<2, 3>::COLUMN_BYTES;

    pub(super) fn sums(columns: usize, skips_nan: bool) -> Self {
        let nans = skips_nan.then(|| vec![0; columns]);
        Self { sums: Lanes::new(columns), squares: None, nans }
    }

    pub(super) fn squares(columns: usize, skips_nan: bool) -> Self {
        Self { squares: Some(Lanes::new(columns)), ..Self::sums(columns, skips_nan) }
    }

    /// Adds rows in C order.
    pub(super) fn add<T: Pod + AsPrimitive<f64>>(&mut self, items: &[T]) {
        let Some(mut nans) = self.nans.take() else { return self.add_all(items) };
        let columns = nans.len().max(1);
        let some_rows = (COPIED_BYTES / size_of::<T>().max(1) / columns).max(1) * columns;
        for rows in items.chunks(some_rows) {
            match rows.iter().fold(false, |found, item| found | item.as_().is_nan()) {
                false => self.add_all(rows),
                true => self.add_all(&without_nan(rows, &mut nans)),
            }
        }
        self.nans = Some(nans);
    }

    fn add_all<T: Pod + AsPrimitive<f64>>(&mut self, items: &[T]) {
        self.sums.add(items);
        if let Some(squares) = &mut self.squares {
            squares.add(items);
        }
    }
}

impl<T: Element + AsPrimitive<f64>> Part<T> for Moments {
    fn holes(skips_nan: bool) -> Holes {
        // A hole must be added row by row in two cases: NaN is ignored, so that elements are counted, or a type of the
        // caller converts zero bytes to another number than zero.
        if !skips_nan && T::zeroed().as_() == 0.0 { Holes::AddOnce } else { Holes::Count }
    }
}

/// Returns the rows with zeros instead of NaN, and counts the NaN in each column.
fn without_nan<T: Pod + AsPrimitive<f64>>(rows: &[T], nans: &mut [usize]) -> Vec<T> {
    let mut rows = rows.to_vec();
    for row in rows.chunks_exact_mut(nans.len()) {
        for (item, nans) in row.iter_mut().zip(&mut *nans) {
            if item.as_().is_nan() {
                *item = T::zeroed();
                *nans += 1;
            }
        }
    }
    rows
}

impl<D> Reduced<D, Moments> {
    /// Returns the number of elements of a column. Ignored elements (NaN) do not count.
    pub(super) fn count(&self, column: usize) -> usize {
        let nans = self.parts.iter().filter_map(|part| part.nans.as_ref());
        self.count - nans.map(|nans| nans[column]).sum::<usize>()
    }

    /// Adds up the sums of each column from all threads. Calls `finish` with each sum and the number of elements, and
    /// returns the results.
    pub(super) fn per_column<R>(&self, finish: impl Fn(&mut Total, u64) -> R) -> Vec<R> {
        let mut total = Total::default();
        let of_column = |column| {
            total.clear();
            self.parts.iter().for_each(|part| part.sums.add_column_to(column, &mut total));
            finish(&mut total, self.count(column) as u64)
        };
        (0..self.columns).map(of_column).collect()
    }

    /// Returns the variance of each column, or its square root.
    pub(super) fn spreads(&self, ddof: f64, kind: Spread) -> Vec<f64> {
        let (mut sum, mut squares) = (Total::default(), Total::default());
        let of_column = |column| {
            sum.clear();
            squares.clear();
            for part in &self.parts {
                part.sums.add_column_to(column, &mut sum);
                part.squares.iter().for_each(|lanes| lanes.add_column_to(column, &mut squares));
            }
            let count = self.count(column);
            let has_too_few = count < self.count && count as f64 <= ddof;
            if has_too_few { f64::NAN } else { spread(&mut sum, &mut squares, count as u64, ddof, kind) }
        };
        (0..self.columns).map(of_column).collect()
    }
}
