//! Sums and squares of the columns of a block, and how those of several blocks are put together.

use super::elements_of_row;
use crate::stream::stage::Element;
use ndarray::{ArrayView, Dimension};
use num_traits::AsPrimitive;
use std::borrow::Cow;

/// How many columns are summed at once at least: narrower rows are taken several together.
const WIDE_ROW: usize = 256;

/// What was at least this large could overflow when something is subtracted from it.
const TOO_LARGE_TO_SHIFT: f64 = 1e300;

/// Sums over some rows for each column, of how far the elements lie from a shift: the first row of the first block. Data
/// far from zero, with little spread, then loses nothing to rounding.
pub(super) struct Columns {
    rows: f64,
    shifts: Vec<f64>,
    sums: Vec<f64>,
    /// The squared distances from the mean of these rows, summed up; empty if nobody asked.
    squares: Vec<f64>,
}

impl Columns {
    /// The memory of [`sums_of`](Self::sums_of), for each element of a row.
    pub(super) const BYTES_FOR_SUMS: usize = 2 * size_of::<f64>();
    /// The memory of [`squares_of`](Self::squares_of), for each element of a row: with the means of the block.
    pub(super) const BYTES_FOR_SQUARES: usize = 4 * size_of::<f64>();

    /// The sums of a block.
    pub(super) fn sums_of<T: Element + AsPrimitive<f64>, D: Dimension>(block: &ArrayView<'_, T, D>) -> Self {
        Self::of(block, &in_c_order(block))
    }

    /// The sums of a block, and the squares.
    pub(super) fn squares_of<T: Element + AsPrimitive<f64>, D: Dimension>(
        block: &ArrayView<'_, T, D>,
    ) -> Self {
        let items = in_c_order(block);
        let mut columns = Self::of(block, &items);
        let row = columns.sums.len();
        if row > 0 {
            let rows = columns.rows;
            let means: Vec<f64> = columns.sums.iter().map(|sum| sum / rows).collect();
            let (shifts, means) = (widened(&columns.shifts), widened(&means));
            let mut squares = vec![0.0; shifts.len()];
            for items in items.chunks(shifts.len()) {
                for (((square, shift), mean), item) in
                    squares.iter_mut().zip(&*shifts).zip(&*means).zip(items)
                {
                    let distance = (item.as_() - shift) - mean;
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
        let shift = |item: &T| Some(item.as_()).filter(|item| item.abs() < TOO_LARGE_TO_SHIFT).unwrap_or(0.0);
        let shifts: Vec<f64> = items.iter().take(row).map(shift).collect();
        let sums = if row == 0 { Vec::new() } else { narrowed(summed(&widened(&shifts), items), row) };
        Self { rows, shifts, sums, squares: Vec::new() }
    }

    /// Adds the rows of another block, whatever its shifts: squares by the distance between the means.
    pub(super) fn join(&mut self, more: Self) {
        let rows = self.rows + more.rows;
        let weight = self.rows * more.rows / rows;
        let shifts_apart = |column: usize| more.shifts[column] - self.shifts[column];
        for (column, (square, more_square)) in self.squares.iter_mut().zip(&more.squares).enumerate() {
            let means_apart = more.sums[column] / more.rows - self.sums[column] / self.rows;
            let distance = shifts_apart(column) + means_apart;
            *square += more_square + distance * distance * weight;
        }
        for (column, (sum, more_sum)) in self.sums.iter_mut().zip(&more.sums).enumerate() {
            *sum += more_sum + shifts_apart(column) * more.rows;
        }
        self.rows = rows;
    }

    pub(super) fn into_means(self) -> Vec<f64> {
        let Self { rows, shifts, mut sums, .. } = self;
        sums.iter_mut().zip(shifts).for_each(|(sum, shift)| *sum = shift + *sum / rows);
        sums
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

/// Sums how far the items of rows lie from the shifts, of which there are as many as are summed at once: four rows at a
/// time, and what is left over.
fn summed<T: AsPrimitive<f64>>(shifts: &[f64], items: &[T]) -> Vec<f64> {
    let len = shifts.len();
    let mut sums = vec![0.0; len];
    let mut fours = items.chunks_exact(4 * len);
    for four in &mut fours {
        let (one, rest) = four.split_at(len);
        let (two, rest) = rest.split_at(len);
        let (three, four) = rest.split_at(len);
        let rows = sums.iter_mut().zip(shifts).zip(one).zip(two).zip(three).zip(four);
        for (((((sum, &shift), one), two), three), four) in rows {
            *sum +=
                ((one.as_() - shift) + (two.as_() - shift)) + ((three.as_() - shift) + (four.as_() - shift));
        }
    }
    for row in fours.remainder().chunks(len) {
        sums.iter_mut().zip(shifts).zip(row).for_each(|((sum, shift), item)| *sum += item.as_() - shift);
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
}
