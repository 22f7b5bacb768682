//! Reductions of a stream to one result, or to one result for each column. Each thread adds its blocks to a partial
//! result, called a part, and the parts are joined at the end.
//!
//! Sums are computed exactly and rounded once at the end, so no result depends on the order of the blocks, on the
//! threads or on the budget. Extremes and quantiles do not depend on the order either, because each of them is an
//! element or is computed from two elements.

mod axis0;
mod brackets;
mod everything;
mod extremes;
mod lanes;
mod moments;
mod natural;
mod number;
mod quantile;
mod stats;
mod strips;
mod sums;
mod total;

pub use self::stats::Stats;

use self::strips::piece_len;

use super::Stream;
use super::blocks::{Block, Blocks};
use super::budget::Plan;
use super::job::Job;
use super::stage::{Element, Stage, row_bytes_of, rows_of};
use super::workers::{self, Progress};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{into_inner, lock};
use ndarray::{Array, ArrayView, Axis, Dimension, RemoveAxis};
use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// An array with the shape of a row.
type Row<T, D> = Array<T, <D as Dimension>::Smaller>;

/// Two arrays with the shape of a row.
type TwoRows<T, D> = (Row<T, D>, Row<T, D>);

impl<S: Stage> Stream<'_, S> {
    /// Lets the reductions of this stream ignore NaN, as numpy's `nansum`, `nanmean`, `nanvar`, `nanquantile` and so
    /// on.
    ///
    /// The number of elements is then the number of elements that are not NaN. A mean or a quantile of no elements is
    /// NaN, and so is a variance if `ddof` is not below the number of elements. This setting has no effect on functions
    /// that are not reductions.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// let values = array![[1.0, f64::NAN], [3.0, 5.0]];
    /// assert_eq!(Stream::from(&values).skip_nan().mean_axis0()?, array![2.0, 5.0]);
    /// assert_eq!(Stream::from(&values).skip_nan().min_max()?, Some((1.0, 5.0)));
    /// assert!(Stream::from(&values).mean()?.is_nan());
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn skip_nan(mut self) -> Self {
        self.skips_nan = true;
        self
    }

    /// Reduces all blocks to partial results, called parts. `per` tells whether a part has one result for each column,
    /// or one result for the whole array.
    ///
    /// `column_bytes` is the memory of a part for each column, and `check` refuses invalid numbers of elements. `new`
    /// returns a part for a number of columns; its other argument is whether to ignore NaN. `add` gets whole rows in C
    /// order, or elements in any order if there is one result for the whole array.
    fn reduce<P: Part<S::Item>>(
        self,
        operation: &'static str,
        per: Per,
        column_bytes: usize,
        check: impl FnOnce(usize) -> Result<()>,
        new: impl Fn(usize, bool) -> P + Sync,
        add: impl Fn(&mut P, &[S::Item]) + Sync,
    ) -> Result<Reduced<S::Dim, P>> {
        self.run(operation, None, |job, progress| {
            let shape = job.stage.shape();
            let (columns, count) = match per {
                Per::Array => (1, shape.size()),
                Per::Column => (columns_of(&shape)?, rows_of(&shape)),
            };
            check(count)?;
            let plan = job.plan_for_parts(job.threads_to_read(), columns.saturating_mul(column_bytes));
            let holes = P::holes(job.skips_nan);
            let parts = job.collect_parts(
                progress,
                plan,
                holes,
                || new(columns, job.skips_nan),
                |part, block| {
                    let items = match per {
                        Per::Array => in_memory_order(block),
                        Per::Column => in_c_order(block),
                    };
                    items.chunks(piece_len::<S::Item>(columns)).for_each(|rows| add(part, rows));
                },
            )?;
            Ok(Reduced { shape, columns, count, parts })
        })
    }
}

/// Whether a reduction has one result for the whole array, or one result for each column.
#[derive(Clone, Copy, Debug)]
enum Per {
    Array,
    Column,
}

/// How often a reduction must add rows of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holes {
    /// Once for each row.
    Count,
    /// The reduction must add one row of zeros. More rows of zeros do not change a partial result, so the holes of the
    /// source are not read.
    AddOnce,
}

/// A partial result of a reduction of elements of type `T`.
trait Part<T>: Send {
    fn holes(skips_nan: bool) -> Holes;
}

/// The partial results of a reduction.
struct Reduced<D, P> {
    /// The shape of the array that contains all rows.
    shape: D,
    /// The number of results.
    columns: usize,
    /// The number of elements that are reduced to each result, including NaN.
    count: usize,
    /// The partial results: at most one for each thread, and none if there are no rows.
    parts: Vec<P>,
}

impl<S: Stage> Job<S> {
    /// Adds every block to a partial result, called a part. No two threads use the same part at the same time. Returns
    /// the parts: at most one for each thread, and none if there are no rows.
    fn collect_parts<P: Send>(
        &self,
        progress: &mut Progress<'_>,
        plan: Plan,
        holes: Holes,
        new: impl Fn() -> P + Sync,
        add: impl Fn(&mut P, &ArrayView<'_, S::Item, S::Dim>) + Sync,
    ) -> Result<Vec<P>> {
        let blocks = match holes {
            Holes::AddOnce => self.blocks(&plan)?,
            Holes::Count => Blocks::find(self.rows(), plan.block_rows, Ok)?,
        };
        let parts = Mutex::new(Vec::new());
        let has_zeros = AtomicBool::new(false);
        workers::run(blocks.count(), plan.threads, progress, |state: &mut S::State, block| {
            let (range, done) = match blocks.get(block) {
                Block::Data(rows) => (rows.clone(), rows.len()),
                Block::Hole(rows) if has_zeros.swap(true, Ordering::Relaxed) => return Ok(rows.len()),
                Block::Hole(rows) => (rows.start..rows.end.min(rows.start + plan.block_rows), rows.len()),
            };
            let free = lock(&parts).pop();
            let mut part = free.unwrap_or_else(&new);
            self.stage.reduce(state, range, &mut |block| add(&mut part, block))?;
            lock(&parts).push(part);
            Ok(done)
        })?;
        Ok(into_inner(parts))
    }
}

/// Returns the number of columns, which is the number of elements of a row. Returns an error for an array of zero
/// dimensions, which has no axis to reduce.
fn columns_of<D: Dimension>(shape: &D) -> Result<usize> {
    match shape.ndim() {
        0 => Err(Error::new(
            ErrorKind::OutOfBounds,
            "stream",
            "an array that has axis 0",
            "one of 0 dimensions",
        )),
        _ => Ok(row_bytes_of::<u8, D>(shape)),
    }
}

/// Returns the values of all columns as an array in the shape of a row.
fn in_row_shape<T, D: RemoveAxis>(shape: &D, values: Vec<T>) -> Row<T, D> {
    Array::from_shape_vec(shape.remove_axis(Axis(0)), values).expect("one value for each column")
}

/// Returns the result of the only column.
fn only_column<R>(mut results: Vec<R>) -> R {
    results.pop().expect("one column was reduced")
}

/// Returns the elements of a block in C order.
fn in_c_order<'b, T: Element, D: Dimension>(block: &'b ArrayView<'_, T, D>) -> Cow<'b, [T]> {
    block.as_slice().map_or_else(|| block.iter().copied().collect(), Cow::Borrowed)
}

/// Returns the elements of a block in any order.
fn in_memory_order<'b, T: Element, D: Dimension>(block: &'b ArrayView<'_, T, D>) -> Cow<'b, [T]> {
    block.as_slice_memory_order().map_or_else(|| in_c_order(block), Cow::Borrowed)
}

#[allow(clippy::eq_op, reason = "NaN is not equal to itself")]
fn is_nan<T: PartialEq>(item: &T) -> bool {
    item != item
}

/// Returns an error unless `ddof` is between 0 and `count`.
fn check_ddof(ddof: f64, count: usize) -> Result<()> {
    if (0.0..=count as f64).contains(&ddof) {
        return Ok(());
    }
    let expected = format!("degrees of freedom from 0 to {count}, the number of elements");
    Err(Error::new(ErrorKind::InvalidInput, "stream", expected, format!("{ddof}"))
        .with_remedy("0.0 is for a population, 1.0 for a sample"))
}
