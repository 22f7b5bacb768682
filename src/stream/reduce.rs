//! Reductions over all rows, each block on whatever thread is free, put together in the order of the blocks.

use super::Stream;
use super::stage::{Element, Stage, row_bytes_of, rows_of};
use super::workers::{self, lock};
use crate::error::{Error, ErrorKind, Result};
use ndarray::{Array, ArrayView, Axis, Dimension, RemoveAxis};
use num_traits::AsPrimitive;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Parts of a result that come in any order and are put together in one, so that the result does not depend on threads.
struct InOrder<P> {
    result: Option<P>,
    next: usize,
    early: BTreeMap<usize, P>,
}

impl<P> InOrder<P> {
    fn add(&mut self, block: usize, part: P, join: impl Fn(&mut P, P)) {
        self.early.insert(block, part);
        while let Some(part) = self.early.remove(&self.next) {
            self.next += 1;
            match &mut self.result {
                Some(result) => join(result, part),
                None => self.result = Some(part),
            }
        }
    }
}

impl<S: Stage> Stream<'_, S> {
    /// Reduces blocks to parts, and parts to a whole; `None` if there are no rows.
    fn reduce<P: Send>(
        self,
        part_of: impl Fn(ArrayView<'_, S::Item, S::Dim>) -> P + Sync,
        join: impl Fn(&mut P, P) + Sync,
    ) -> Result<(S::Dim, Option<P>)> {
        let (job, mut progress) = self.into_job()?;
        let rows = job.rows();
        let plan = job.plan(0, job.threads_to_read());
        let parts = Mutex::new(InOrder { result: None, next: 0, early: BTreeMap::new() });
        workers::run(plan.blocks, plan.threads, &mut progress, |state: &mut S::State, block| {
            let range = plan.rows_of_block(block, rows);
            job.stage.load(state, range.clone())?;
            let part = part_of(job.stage.view(state, range.clone()));
            lock(&parts).add(block, part, &join);
            Ok(range.len())
        })?;
        Ok((job.stage.shape(), parts.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).result))
    }

    /// The mean of each column over all rows, summed in `f64`. Not-a-number where there are no rows.
    ///
    /// ```
    /// use ndarray::{Ix2, array};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let mut array = MmapArray::<f32, Ix2>::scratch((1000, 2))?;
    /// array.column_mut(1).fill(0.5);
    /// assert_eq!(Stream::from(&array).mean_axis0()?, array![0.0, 0.5]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`fold`](Self::fold).
    pub fn mean_axis0(self) -> Result<Array<f64, <S::Dim as Dimension>::Smaller>>
    where
        S::Item: AsPrimitive<f64>,
        S::Dim: RemoveAxis,
    {
        let add = |sums: &mut Vec<f64>, more: Vec<f64>| add_to(sums, &more);
        let (shape, sums) = self.reduce(|block| column_sums(&block), add)?;
        let rows = rows_of(&shape) as f64;
        Ok(per_column(&shape, sums.unwrap_or_default(), |sum| sum / rows))
    }

    /// The variance of each column over all rows, `ddof` degrees of freedom less (0 for a population, 1 for a sample).
    ///
    /// Each block is centred on its own mean before it is squared, and the blocks are joined by their means: nothing
    /// cancels, however many rows there are and however far from zero. Not-a-number where there are no rows.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) unless `ddof` is between 0 and the number of rows; as for
    /// [`fold`](Self::fold).
    pub fn var_axis0(self, ddof: f64) -> Result<Array<f64, <S::Dim as Dimension>::Smaller>>
    where
        S::Item: AsPrimitive<f64>,
        S::Dim: RemoveAxis,
    {
        let (shape, spread) = self.reduce(|block| Spread::of(&block), Spread::join)?;
        let rows = rows_of(&shape) as f64;
        if !(0.0..=rows).contains(&ddof) {
            let expected = format!("degrees of freedom from 0 to the {rows} rows");
            return Err(Error::new(ErrorKind::InvalidInput, "var_axis0", expected, format!("{ddof}")));
        }
        let squares = spread.map_or_else(Vec::new, |spread| spread.squares);
        Ok(per_column(&shape, squares, |squares| squares / (rows - ddof)))
    }

    /// The smallest and the largest element. Not-a-number is passed over; `None` if there is nothing else.
    ///
    /// # Errors
    /// As for [`fold`](Self::fold).
    pub fn min_max(self) -> Result<Option<(S::Item, S::Item)>>
    where
        S::Item: PartialOrd,
    {
        let join = |all: &mut Option<(S::Item, S::Item)>, more: Option<(S::Item, S::Item)>| {
            *all = match (*all, more) {
                (Some(all), Some(more)) => Some((smaller(more.0, all.0), larger(more.1, all.1))),
                (all, more) => all.or(more),
            };
        };
        Ok(self.reduce(|block| extremes(&block), join)?.1.flatten())
    }
}

/// Values of columns as an array in the shape of a row.
fn per_column<D: RemoveAxis>(
    shape: &D,
    mut values: Vec<f64>,
    finish: impl Fn(f64) -> f64,
) -> Array<f64, D::Smaller> {
    let row = shape.remove_axis(Axis(0));
    values.resize(row.size(), 0.0); // without rows there were no values
    let values = values.into_iter().map(finish).collect();
    Array::from_shape_vec(row, values).expect("one value for each column")
}

fn add_to(sums: &mut [f64], more: &[f64]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// How many columns are summed at once at least: narrower rows are taken several together.
const WIDE_ROW: usize = 256;

/// Calls `take` on the rows of a block, as slices in C order: several rows at once if they are short, and the last ones
/// alone. The slices' length is a multiple of the row's, at most `wide_row` of it.
fn for_wide_rows<T: Element, D: Dimension>(block: &ArrayView<'_, T, D>, take: impl FnMut(&[T])) {
    let row = row_bytes_of::<T, D>(&block.raw_dim()) / size_of::<T>().max(1);
    if row == 0 {
        return;
    }
    let wide = wide_row(row);
    match block.as_slice() {
        Some(items) => items.chunks(wide).for_each(take),
        None => {
            let items: Vec<T> = block.iter().copied().collect();
            items.chunks(wide).for_each(take);
        }
    }
}

/// The number of elements in as many rows as are taken together.
fn wide_row(row: usize) -> usize {
    row * WIDE_ROW.div_ceil(row)
}

/// The columns of a row.
fn columns<T, D: Dimension>(block: &ArrayView<'_, T, D>) -> usize {
    row_bytes_of::<T, D>(&block.raw_dim()) / size_of::<T>().max(1)
}

/// Adds up what stands above each other in rows that were taken together.
fn narrowed(wide: &[f64], row: usize) -> Vec<f64> {
    let mut sums = vec![0.0; row];
    wide.chunks(row.max(1)).for_each(|row| add_to(&mut sums, row));
    sums
}

/// The sum of each column of a block.
fn column_sums<T: Element + AsPrimitive<f64>, D: Dimension>(block: &ArrayView<'_, T, D>) -> Vec<f64> {
    let row = columns(block);
    if row == 0 {
        return Vec::new();
    }
    let wide = wide_row(row);
    let mut sums = vec![0.0; wide];
    match block.as_slice() {
        Some(items) => add_rows(&mut sums, items),
        None => for_wide_rows(block, |items| add_rows(&mut sums, items)),
    }
    narrowed(&sums, row)
}

/// Adds rows of as many elements as there are sums, four at a time, and what is left over.
fn add_rows<T: AsPrimitive<f64>>(sums: &mut [f64], items: &[T]) {
    let len = sums.len();
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
}

/// Number, means and sums of squared distances from the mean of the columns of some rows.
struct Spread {
    rows: f64,
    means: Vec<f64>,
    squares: Vec<f64>,
}

impl Spread {
    fn of<T: Element + AsPrimitive<f64>, D: Dimension>(block: &ArrayView<'_, T, D>) -> Self {
        let (row, rows) = (columns(block), rows_of(&block.raw_dim()) as f64);
        let means: Vec<f64> = column_sums(block).into_iter().map(|sum| sum / rows).collect();
        if row == 0 {
            return Self { rows, squares: Vec::new(), means };
        }
        let wide_means = means.repeat(wide_row(row) / row);
        let mut squares = vec![0.0; wide_means.len()];
        for_wide_rows(block, |items| {
            for ((square, mean), item) in squares.iter_mut().zip(&wide_means).zip(items) {
                let distance = item.as_() - mean;
                *square += distance * distance;
            }
        });
        Self { rows, squares: narrowed(&squares, row), means }
    }

    /// Chan's rule: the squares of both, and of the distance between their means.
    fn join(&mut self, more: Self) {
        let rows = self.rows + more.rows;
        let columns = self.means.iter_mut().zip(&mut self.squares);
        for ((mean, squares), (more_mean, more_squares)) in columns.zip(more.means.iter().zip(&more.squares))
        {
            let distance = more_mean - *mean;
            *mean += distance * (more.rows / rows);
            *squares += more_squares + distance * distance * (self.rows * more.rows / rows);
        }
        self.rows = rows;
    }
}

fn smaller<T: PartialOrd>(a: T, b: T) -> T {
    if a < b { a } else { b }
}

fn larger<T: PartialOrd>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// The smallest and the largest element of a block that can be compared with itself.
fn extremes<T: Element + PartialOrd, D: Dimension>(block: &ArrayView<'_, T, D>) -> Option<(T, T)> {
    const LANES: usize = 16;
    #[allow(clippy::eq_op, reason = "not-a-number is not equal to itself")]
    let first = *block.iter().find(|&item| item == item)?;
    let mut lanes = ([first; LANES], [first; LANES]);
    let mut take = |item: T, lane: usize| {
        lanes.0[lane] = smaller(item, lanes.0[lane]);
        lanes.1[lane] = larger(item, lanes.1[lane]);
    };
    match block.as_slice_memory_order() {
        Some(items) => {
            let mut groups = items.chunks_exact(LANES);
            for group in &mut groups {
                (0..LANES).for_each(|lane| take(group[lane], lane));
            }
            groups.remainder().iter().for_each(|&item| take(item, 0));
        }
        None => block.iter().for_each(|&item| take(item, 0)),
    }
    let smallest = lanes.0.into_iter().reduce(smaller)?;
    Some((smallest, lanes.1.into_iter().reduce(larger)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, ShapeBuilder};

    #[test]
    fn parts_are_joined_in_order_whatever_order_they_come_in() {
        let mut parts = InOrder { result: None, next: 0, early: BTreeMap::new() };
        for block in [2, 0, 1, 4, 3] {
            parts.add(block, vec![block], |all, more| all.extend(more));
        }
        assert_eq!(parts.result, Some(vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn sums_and_spreads_of_every_layout() {
        for row in [1, 3, 100, 256, 700] {
            for rows in [1, 5, 1000] {
                let value = |(r, c): (usize, usize)| ((r * 7 + c * 3) % 11) as f32;
                for block in
                    [Array2::from_shape_fn((rows, row), value), Array2::from_shape_fn((rows, row).f(), value)]
                {
                    let sums = column_sums(&block.view());
                    let expected = block.mapv(f64::from);
                    assert_eq!(sums, expected.sum_axis(Axis(0)).to_vec(), "{rows} {row}");
                    let spread = Spread::of(&block.view());
                    let variances = expected.var_axis(Axis(0), 0.0);
                    for (squares, variance) in spread.squares.iter().zip(&variances) {
                        assert!((squares / rows as f64 - variance).abs() < 1e-9, "{rows} {row}");
                    }
                }
            }
        }
    }

    #[test]
    fn extremes_pass_over_what_is_no_number() {
        let nan = f32::NAN;
        let view = |items: &[f32]| extremes(&ndarray::aview1(items));
        assert_eq!(view(&[nan, 2.0, -1.0, nan, 7.0]), Some((-1.0, 7.0)));
        assert_eq!(view(&[nan, nan]), None);
        assert_eq!(view(&[]), None);
        let many: Vec<f32> = (0..1000).map(|index| if index % 3 == 0 { nan } else { index as f32 }).collect();
        assert_eq!(view(&many), Some((1.0, 998.0)));
    }
}
