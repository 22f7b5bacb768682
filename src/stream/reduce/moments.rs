//! [`Moments`]: exact sums of columns, and optionally of their squares.

use super::lanes::Lanes;
use super::total::{Spread, Total, spread};
use bytemuck::Pod;
use num_traits::AsPrimitive;

/// The sums of columns over the rows that one thread has processed.
pub(super) struct Moments {
    sums: Lanes<1, 2>,
    squares: Option<Lanes<2, 3>>,
}

impl Moments {
    /// The memory of a column's sum.
    pub(super) const SUM_BYTES: usize = Lanes::<1, 2>::COLUMN_BYTES;

    /// The memory of a column's sum and of the sum of its squares.
    pub(super) const SQUARES_BYTES: usize = Self::SUM_BYTES + Lanes::<2, 3>::COLUMN_BYTES;

    pub(super) fn sums(columns: usize) -> Self {
        Self { sums: Lanes::new(columns), squares: None }
    }

    pub(super) fn squares(columns: usize) -> Self {
        Self { squares: Some(Lanes::new(columns)), ..Self::sums(columns) }
    }

    /// Adds rows in C order.
    pub(super) fn add<T: Pod + AsPrimitive<f64>>(&mut self, items: &[T]) {
        self.sums.add(items);
        if let Some(squares) = &mut self.squares {
            squares.add(items);
        }
    }
}

/// Adds up the totals of each column from all threads, and returns `finish` of each sum.
pub(super) fn per_column<R>(parts: &[Moments], columns: usize, finish: impl Fn(&mut Total) -> R) -> Vec<R> {
    let mut total = Total::default();
    let of_column = |column| {
        total.clear();
        parts.iter().for_each(|part| part.sums.add_column_to(column, &mut total));
        finish(&mut total)
    };
    (0..columns).map(of_column).collect()
}

/// Returns the variance of each column of `count` elements, or its square root.
pub(super) fn spreads(parts: &[Moments], columns: usize, count: usize, ddof: f64, kind: Spread) -> Vec<f64> {
    let (mut sum, mut squares) = (Total::default(), Total::default());
    let of_column = |column| {
        sum.clear();
        squares.clear();
        for part in parts {
            part.sums.add_column_to(column, &mut sum);
            part.squares.iter().for_each(|lanes| lanes.add_column_to(column, &mut squares));
        }
        spread(&mut sum, &mut squares, count as u64, ddof, kind)
    };
    (0..columns).map(of_column).collect()
}
