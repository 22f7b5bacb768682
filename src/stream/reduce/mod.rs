//! Reductions over all rows, each block on whatever thread is free, put together in the order of the blocks.

mod columns;

use self::columns::Columns;
use super::Stream;
use super::stage::{Element, Stage, row_bytes_of, rows_of};
use super::steps::call;
use super::workers;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{into_inner, lock, wait};
use ndarray::{Array, ArrayView, Axis, Dimension, RemoveAxis};
use num_traits::AsPrimitive;
use std::sync::{Condvar, Mutex};

/// Parts of a result that are put together in the order of their blocks, so that the result does not depend on threads.
/// Whoever comes early waits, with one part in hand: however many threads there are, the parts take no more memory.
struct InOrder<P> {
    parts: Mutex<Parts<P>>,
    turn: Condvar,
}

struct Parts<P> {
    result: Option<P>,
    next: usize,
    failed: bool,
}

impl<P> InOrder<P> {
    fn new() -> Self {
        Self { parts: Mutex::new(Parts { result: None, next: 0, failed: false }), turn: Condvar::new() }
    }

    /// Adds the part of a block when its turn comes. Blocks are begun in their order, so every turn does.
    fn add(&self, block: usize, part: Result<P>, join: impl Fn(&mut P, P)) -> Result<()> {
        let mut parts = lock(&self.parts);
        while part.is_ok() && parts.next != block && !parts.failed {
            parts = wait(&self.turn, parts);
        }
        let added = part.and_then(|part| match &mut parts.result {
            Some(result) => call(|| join(result, part)),
            none => {
                *none = Some(part);
                Ok(())
            }
        });
        parts.failed |= added.is_err();
        parts.next += 1;
        self.turn.notify_all();
        added
    }

    fn into_result(self) -> Option<P> {
        into_inner(self.parts).result
    }
}

impl<S: Stage> Stream<'_, S> {
    /// Reduces blocks to parts, and parts to a whole; `None` if there are no rows. A part takes so many bytes for each element
    /// of a row. `check` is told the shape of all. `operation` is the function that the caller called.
    fn reduce<P: Send>(
        self,
        operation: &'static str,
        bytes_for_each_element: usize,
        check: impl FnOnce(&S::Dim) -> Result<()>,
        part_of: impl Fn(ArrayView<'_, S::Item, S::Dim>) -> P + Sync,
        join: impl Fn(&mut P, P) + Sync,
    ) -> Result<(S::Dim, Option<P>)> {
        self.run(operation, None, |job, progress| {
            let (shape, rows) = (job.stage.shape(), job.rows());
            check(&shape)?;
            let part_bytes = elements_of_row(&shape).saturating_mul(bytes_for_each_element);
            let plan = job.plan_for_parts(job.threads_to_read(), part_bytes);
            let parts = InOrder::new();
            workers::run(plan.blocks, plan.threads, progress, |state: &mut S::State, block| {
                let range = plan.rows_of_block(block, rows);
                let make = || {
                    job.stage.load(state, range.clone())?;
                    Ok(part_of(job.stage.view(state, range.clone())))
                };
                let part = call(make).and_then(|made| made);
                parts.add(block, part, &join)?;
                Ok(range.len())
            })?;
            Ok((shape, parts.into_result()))
        })
    }

    /// The mean of each column over all rows, in `f64`. Not-a-number where there are no rows.
    ///
    /// What sums of 64-bit elements lose to rounding is summed as well (Knuth's two-sum), and blocks are joined by their means:
    /// far from zero, and over any number of rows, hardly more is rounded away than the mean itself cannot show.
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
    /// As for [`fold`](Self::fold); [`OutOfBounds`](ErrorKind::OutOfBounds) for an array of zero dimensions.
    pub fn mean_axis0(self) -> Result<Array<f64, <S::Dim as Dimension>::Smaller>>
    where
        S::Item: AsPrimitive<f64>,
        S::Dim: RemoveAxis,
    {
        let of_block = |block: ArrayView<'_, S::Item, S::Dim>| Columns::means_of(&block);
        let (shape, columns) =
            self.reduce("mean_axis0", Columns::BYTES_FOR_EACH, need_rows, of_block, Columns::join)?;
        Ok(per_column(&shape, columns.map(Columns::into_means)))
    }

    /// The variance of each column over all rows, `ddof` degrees of freedom less (0 for a population, 1 for a sample).
    ///
    /// Each block is centred on its own mean before it is squared, and the blocks are joined by their means (Chan, Golub and
    /// LeVeque, 1983): nothing cancels, however many rows there are and however far from zero. Not-a-number where there are
    /// no rows.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) unless `ddof` is between 0 and the number of rows; as for
    /// [`mean_axis0`](Self::mean_axis0).
    pub fn var_axis0(self, ddof: f64) -> Result<Array<f64, <S::Dim as Dimension>::Smaller>>
    where
        S::Item: AsPrimitive<f64>,
        S::Dim: RemoveAxis,
    {
        let of_block = |block: ArrayView<'_, S::Item, S::Dim>| Columns::squares_of(&block);
        let check = |shape: &S::Dim| {
            need_rows(shape)?;
            let rows = rows_of(shape);
            if (0.0..=rows as f64).contains(&ddof) {
                return Ok(());
            }
            let expected = format!("degrees of freedom from 0 to the {rows} rows");
            Err(Error::new(ErrorKind::InvalidInput, "stream", expected, format!("{ddof}"))
                .or_else_try("0.0 is for a population, 1.0 for a sample"))
        };
        let (shape, columns) =
            self.reduce("var_axis0", Columns::BYTES_FOR_EACH, check, of_block, Columns::join)?;
        let rows = rows_of(&shape) as f64;
        Ok(per_column(&shape, columns.map(|columns| columns.into_variances(rows - ddof))))
    }

    /// The smallest and the largest element. An element that does not equal itself, as not-a-number, is passed over; `None`
    /// if there is nothing else. Of elements that are equal, as `0.0` and `-0.0`, it may be either.
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
        Ok(self.reduce("min_max", 0, |_| Ok(()), |block| extremes(&block), join)?.1.flatten())
    }
}

/// An error for an array of zero dimensions, which has no rows to reduce.
fn need_rows<D: Dimension>(shape: &D) -> Result<()> {
    match shape.ndim() {
        0 => Err(Error::new(
            ErrorKind::OutOfBounds,
            "stream",
            "an array that has axis 0",
            "one of 0 dimensions",
        )
        .or_else_try("give it one with `insert_axis(Axis(0))`")),
        _ => Ok(()),
    }
}

/// Values of columns as an array in the shape of a row; not-a-number where there are none.
fn per_column<D: RemoveAxis>(shape: &D, values: Option<Vec<f64>>) -> Array<f64, D::Smaller> {
    let row = shape.remove_axis(Axis(0));
    let values = values.unwrap_or_else(|| vec![f64::NAN; row.size()]);
    Array::from_shape_vec(row, values).expect("one value for each column")
}

/// How many elements a row has.
fn elements_of_row<D: Dimension>(shape: &D) -> usize {
    row_bytes_of::<u8, D>(shape)
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

    #[test]
    fn parts_are_joined_in_order_whatever_order_they_come_in() {
        let parts = InOrder::new();
        std::thread::scope(|scope| {
            for block in [2, 0, 1, 4, 3] {
                let parts = &parts;
                scope.spawn(move || parts.add(block, Ok(vec![block]), |all, more| all.extend(more)).unwrap());
            }
        });
        assert_eq!(parts.into_result(), Some(vec![0, 1, 2, 3, 4]));
    }

    #[test]
    fn a_part_that_fails_keeps_nobody_waiting() {
        let parts = InOrder::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| parts.add(1, Ok(1), |_, _| panic!("no part to join with")));
            let error = Error::new(ErrorKind::Io, "stream", "a part", "none");
            assert!(parts.add(0, Err(error), |_, _| ()).is_err());
            waiting.join().unwrap().unwrap();
        });
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
