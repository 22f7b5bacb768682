//! Sums and squares of the columns of a block, and how those of several blocks are put together.

use super::elements_of_row;
use crate::stream::stage::Element;
use ndarray::{ArrayView, Dimension};
use num_traits::AsPrimitive;
use std::borrow::Cow;

/// How many columns are summed at once at least: narrower rows are taken several together.
const WIDE_ROW: usize = 256;

/// Mean and spread of each column over some rows.
///
/// A mean is the sum of two numbers, the second one being what the first has lost to rounding.
pub(super) struct Columns {
    rows: f64,
    means: Vec<f64>,
    tails: Vec<f64>,
    /// The squared distances from the mean, summed up; empty if nobody asked.
    squares: Vec<f64>,
}

impl Columns {
    /// The memory that it takes to make one, for each element of a row.
    pub(super) const BYTES_FOR_EACH: usize = 4 * size_of::<f64>();

    /// The means of a block.
    pub(super) fn means_of<T: Element + AsPrimitive<f64>, D: Dimension>(block: &ArrayView<'_, T, D>) -> Self {
        Self::of(block, &in_c_order(block))
    }

    /// The means of a block, and the squares.
    pub(super) fn squares_of<T: Element + AsPrimitive<f64>, D: Dimension>(
        block: &ArrayView<'_, T, D>,
    ) -> Self {
        let items = in_c_order(block);
        let mut columns = Self::of(block, &items);
        let row = columns.means.len();
        if row > 0 {
            let (means, tails) = (widened(&columns.means), widened(&columns.tails));
            let mut squares = vec![0.0; means.len()];
            for items in items.chunks(means.len()) {
                for (((square, mean), tail), item) in squares.iter_mut().zip(&*means).zip(&*tails).zip(items)
                {
                    let distance = (item.as_() - mean) - tail;
                    *square += distance * distance;
                }
            }
            columns.squares = narrowed(squares, row);
        }
        columns
    }

    fn of<T: Element + AsPrimitive<f64>, D: Dimension>(block: &ArrayView<'_, T, D>, items: &[T]) -> Self {
        let row = elements_of_row(&block.raw_dim());
        let rows = block.shape().first().map_or(1, |&rows| rows) as f64;
        let (sums, lost) = match row {
            0 => (Vec::new(), Vec::new()),
            // Sums of up to a million elements of 32 bits or less lose nothing in 64 that the mean could show.
            _ if size_of::<T>() < size_of::<f64>() => {
                (narrowed(summed(wide_row(row), items), row), vec![0.0; row])
            }
            _ => summed_exactly(wide_row(row), items, row),
        };
        let means: Vec<f64> = sums.iter().map(|sum| sum / rows).collect();
        let tail = |((sum, lost), mean): ((f64, f64), &f64)| {
            let rest = (-mean).mul_add(rows, sum) + lost; // what the division has left, and the sums
            Some(rest / rows).filter(|tail| tail.is_finite()).unwrap_or(0.0)
        };
        let tails = sums.into_iter().zip(lost).zip(&means).map(tail).collect();
        Self { rows, means, tails, squares: Vec::new() }
    }

    /// Adds the rows of another block.
    pub(super) fn join(&mut self, more: Self) {
        let rows = self.rows + more.rows;
        let (weight, share) = (self.rows * more.rows / rows, more.rows / rows);
        for column in 0..self.means.len() {
            let (mean, tail) = (self.means[column], self.tails[column]);
            let apart = (more.means[column] - mean) + (more.tails[column] - tail);
            if let Some(square) = self.squares.get_mut(column) {
                *square += more.squares[column] + apart * apart * weight;
            }
            let step = apart * share;
            let (joined, lost) = two_sum(mean, step);
            if joined.is_finite() {
                self.tails[column] += lost;
                self.means[column] = joined;
            } else {
                // Far apart, or no numbers.
                self.means[column] = mean * (self.rows / rows) + more.means[column] * share;
                self.tails[column] = 0.0;
            }
        }
        self.rows = rows;
    }

    pub(super) fn into_means(self) -> Vec<f64> {
        let Self { mut means, tails, .. } = self;
        means.iter_mut().zip(tails).for_each(|(mean, tail)| *mean += tail);
        means
    }

    pub(super) fn into_variances(self, degrees_of_freedom: f64) -> Vec<f64> {
        let mut squares = self.squares;
        squares.iter_mut().for_each(|square| *square /= degrees_of_freedom);
        squares
    }
}

/// The elements of a block in C order.
fn in_c_order<'b, T: Element, D: Dimension>(block: &'b ArrayView<'_, T, D>) -> Cow<'b, [T]> {
    block.as_slice().map_or_else(|| block.iter().copied().collect(), Cow::Borrowed)
}

/// The number of elements in as many rows as are taken together.
fn wide_row(row: usize) -> usize {
    row * WIDE_ROW.div_ceil(row)
}

/// Values of columns, once for each of the rows that are taken together.
fn widened(values: &[f64]) -> Cow<'_, [f64]> {
    match wide_row(values.len()) / values.len() {
        1 => values.into(),
        times => values.repeat(times).into(),
    }
}

/// Adds up what stands above each other in rows that were taken together.
fn narrowed(wide: Vec<f64>, row: usize) -> Vec<f64> {
    if wide.len() == row {
        return wide;
    }
    let mut sums = vec![0.0; row];
    wide.chunks(row).for_each(|values| sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value));
    sums
}

/// A sum, and what it has lost to rounding (Knuth's two-sum).
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let added = sum - a;
    (sum, (a - (sum - added)) + (b - added))
}

/// Sums rows, of which so many items are taken together, to one of `row` items: the sums, and what they have lost.
fn summed_exactly<T: AsPrimitive<f64>>(len: usize, items: &[T], row: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut sums, mut lost) = (vec![0.0; len], vec![0.0; len]);
    for items in items.chunks(len) {
        for ((sum, lost), item) in sums.iter_mut().zip(&mut lost).zip(items) {
            let (more, rounded_away) = two_sum(*sum, item.as_());
            *sum = more;
            *lost += rounded_away;
        }
    }
    let (rest_lost, rest) = (lost.split_off(row), sums.split_off(row));
    for (more, more_lost) in rest.chunks(row).zip(rest_lost.chunks(row)) {
        for column in 0..row {
            let (sum, rounded_away) = two_sum(sums[column], more[column]);
            sums[column] = sum;
            lost[column] += rounded_away + more_lost[column];
        }
    }
    (sums, lost)
}

/// Sums rows of so many items, four at a time, and what is left over.
fn summed<T: AsPrimitive<f64>>(len: usize, items: &[T]) -> Vec<f64> {
    let mut sums = vec![0.0; len];
    let mut fours = items.chunks_exact(4 * len);
    for four in &mut fours {
        let (one, rest) = four.split_at(len);
        let (two, rest) = rest.split_at(len);
        let (three, four) = rest.split_at(len);
        for ((((sum, one), two), three), four) in sums.iter_mut().zip(one).zip(two).zip(three).zip(four) {
            *sum += (one.as_() + two.as_()) + (three.as_() + four.as_());
        }
    }
    for row in fours.remainder().chunks(len) {
        sums.iter_mut().zip(row).for_each(|(sum, item)| *sum += item.as_());
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Axis, ShapeBuilder};

    /// Against ndarray, with the rows in one block and in several.
    #[test]
    fn means_and_variances_of_every_layout() {
        for row in [1, 3, 100, 256, 700] {
            for rows in [1, 5, 1000] {
                let value = |(r, c): (usize, usize)| ((r * 7 + c * 3) % 11) as f32;
                for block in
                    [Array2::from_shape_fn((rows, row), value), Array2::from_shape_fn((rows, row).f(), value)]
                {
                    let expected = block.mapv(f64::from);
                    let parts = block.axis_chunks_iter(Axis(0), 300).map(|part| Columns::squares_of(&part));
                    let joined = parts.reduce(|mut all, more| {
                        all.join(more);
                        all
                    });
                    for columns in [Columns::squares_of(&block.view()), joined.unwrap()] {
                        let variances = expected.var_axis(Axis(0), 0.0);
                        let squares = columns.squares.iter().zip(&variances);
                        for (square, variance) in squares {
                            assert!((square / rows as f64 - variance).abs() < 1e-9, "{rows} {row}");
                        }
                        let means = columns.into_means();
                        for (mean, expected) in means.iter().zip(&expected.mean_axis(Axis(0)).unwrap()) {
                            assert!((mean - expected).abs() < 1e-12, "{rows} {row}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn blocks_that_are_far_apart() {
        let of = |values: &[f64]| Columns::means_of(&ndarray::aview1(values));
        let mut all = of(&[f64::MAX]);
        all.join(of(&[-f64::MAX]));
        assert_eq!(all.into_means(), [0.0]);
        let mut all = of(&[1e15, 1.0, -1e15]);
        (0..1000).for_each(|_| all.join(of(&[1.0, 1.0])));
        assert!((all.into_means()[0] - 2001.0 / 2003.0).abs() < 1e-12);
        let mut all = of(&[f64::INFINITY]);
        all.join(of(&[1.0]));
        assert_eq!(all.into_means(), [f64::INFINITY]);
    }
}
