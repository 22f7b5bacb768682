//! Reductions of a stream to one result, or to one result for each column. Each thread adds its blocks to a partial
//! result, called a part, and the parts are joined at the end.
//!
//! Sums are computed exactly and rounded once at the end, so no result depends on the order of the blocks, on the
//! threads or on the budget.

mod axis0;
mod everything;
mod extremes;
mod lanes;
mod moments;
mod natural;
mod number;
mod sums;
mod total;

use super::Stream;
use super::blocks::{Block, Blocks};
use super::stage::{Element, Stage, row_bytes_of};
use super::workers;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{into_inner, lock};
use ndarray::{ArrayView, Dimension};
use num_traits::AsPrimitive;
use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

impl<S: Stage> Stream<'_, S> {
    /// Adds every block to a part. A part is used by only one thread at a time. Returns the shape and the parts: at
    /// most one for each thread, and none if there are no rows.
    ///
    /// `holes` tells how often rows of zeros must be added.
    ///
    /// `part_bytes` returns the memory of a part for a shape, and `check` refuses invalid shapes.
    fn collect_parts<P: Send>(
        self,
        operation: &'static str,
        check: impl FnOnce(&S::Dim) -> Result<()>,
        part_bytes: impl Fn(&S::Dim) -> usize,
        new: impl Fn(&S::Dim) -> P + Sync,
        add: impl Fn(&mut P, &ArrayView<'_, S::Item, S::Dim>) + Sync,
        holes: Holes,
    ) -> Result<(S::Dim, Vec<P>)> {
        self.run(operation, None, |job, progress| {
            let (shape, rows) = (job.stage.shape(), job.rows());
            check(&shape)?;
            let plan = job.plan_for_parts(job.threads_to_read(), part_bytes(&shape));
            let parts = Mutex::new(Vec::new());
            let blocks = match holes {
                Holes::AddOnce => job.blocks(&plan)?,
                Holes::Count => Blocks::find(rows, plan.block_rows, Ok)?,
            };
            let has_zeros = AtomicBool::new(false);
            workers::run(blocks.count(), plan.threads, progress, |state: &mut S::State, block| {
                let (range, done) = match blocks.get(block) {
                    Block::Data(rows) => (rows.clone(), rows.len()),
                    Block::Hole(rows) if has_zeros.swap(true, Ordering::Relaxed) => return Ok(rows.len()),
                    Block::Hole(rows) => (rows.start..rows.end.min(rows.start + plan.block_rows), rows.len()),
                };
                job.stage.load(state, range.clone())?;
                let free = lock(&parts).pop();
                let mut part = free.unwrap_or_else(|| new(&shape));
                add(&mut part, &job.stage.view(state, range.clone()));
                lock(&parts).push(part);
                Ok(done)
            })?;
            Ok((shape, into_inner(parts)))
        })
    }
}

/// How often a reduction must add rows of zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holes {
    /// Once for each row.
    Count,
    /// Once: further rows of zeros do not change a part. So the holes of the source are not read.
    AddOnce,
}

impl Holes {
    /// Returns how often rows of zeros must be added to sums. A type of the caller can convert zero bytes to any number.
    fn for_sums<T: Element + AsPrimitive<f64>>() -> Self {
        if T::zeroed().as_() == 0.0 { Self::AddOnce } else { Self::Count }
    }
}

/// Returns the number of elements of a row.
fn elements_of_row<D: Dimension>(shape: &D) -> usize {
    row_bytes_of::<u8, D>(shape)
}

/// Returns the elements of a block in C order.
fn in_c_order<'b, T: Element, D: Dimension>(block: &'b ArrayView<'_, T, D>) -> Cow<'b, [T]> {
    block.as_slice().map_or_else(|| block.iter().copied().collect(), Cow::Borrowed)
}

/// Returns the elements of a block in any order.
fn in_memory_order<'b, T: Element, D: Dimension>(block: &'b ArrayView<'_, T, D>) -> Cow<'b, [T]> {
    block.as_slice_memory_order().map_or_else(|| in_c_order(block), Cow::Borrowed)
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
