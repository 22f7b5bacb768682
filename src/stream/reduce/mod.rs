//! Reductions: each thread collects the blocks that it gets in a part of its own, and the parts are joined at the end.
//!
//! Sums are exact until they are rounded once, so no result depends on the order of the blocks, on the threads or on the budget.

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
use super::stage::{Element, Stage, row_bytes_of};
use super::workers;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{into_inner, lock};
use ndarray::{ArrayView, Dimension};
use std::borrow::Cow;
use std::sync::Mutex;

impl<S: Stage> Stream<'_, S> {
    /// Adds every block to a part, which no two threads have at the same time. Returns the shape and the parts: at most as many
    /// as threads, none if there are no rows.
    ///
    /// A part takes `part_bytes` for a shape, `check` refuses shapes. `operation` is the function that the caller called.
    fn collect_parts<P: Send>(
        self,
        operation: &'static str,
        check: impl FnOnce(&S::Dim) -> Result<()>,
        part_bytes: impl Fn(&S::Dim) -> usize,
        new: impl Fn(&S::Dim) -> P + Sync,
        add: impl Fn(&mut P, &ArrayView<'_, S::Item, S::Dim>) + Sync,
    ) -> Result<(S::Dim, Vec<P>)> {
        self.run(operation, None, |job, progress| {
            let (shape, rows) = (job.stage.shape(), job.rows());
            check(&shape)?;
            let plan = job.plan_for_parts(job.threads_to_read(), part_bytes(&shape));
            let parts = Mutex::new(Vec::new());
            workers::run(plan.blocks, plan.threads, progress, |state: &mut S::State, block| {
                let range = plan.rows_of_block(block, rows);
                job.stage.load(state, range.clone())?;
                let free = lock(&parts).pop();
                let mut part = free.unwrap_or_else(|| new(&shape));
                add(&mut part, &job.stage.view(state, range.clone()));
                lock(&parts).push(part);
                Ok(range.len())
            })?;
            Ok((shape, into_inner(parts)))
        })
    }
}

/// How many elements a row has.
fn elements_of_row<D: Dimension>(shape: &D) -> usize {
    row_bytes_of::<u8, D>(shape)
}

/// The elements of a block in C order.
fn in_c_order<'b, T: Element, D: Dimension>(block: &'b ArrayView<'_, T, D>) -> Cow<'b, [T]> {
    block.as_slice().map_or_else(|| block.iter().copied().collect(), Cow::Borrowed)
}

/// The elements of a block in any order.
fn in_memory_order<'b, T: Element, D: Dimension>(block: &'b ArrayView<'_, T, D>) -> Cow<'b, [T]> {
    block.as_slice_memory_order().map_or_else(|| in_c_order(block), Cow::Borrowed)
}

/// An error unless there are so many degrees of freedom to take from `count` numbers.
fn check_ddof(ddof: f64, count: usize) -> Result<()> {
    if (0.0..=count as f64).contains(&ddof) {
        return Ok(());
    }
    let expected = format!("degrees of freedom from 0 to {count}, the number of elements");
    Err(Error::new(ErrorKind::InvalidInput, "stream", expected, format!("{ddof}"))
        .or_else_try("0.0 is for a population, 1.0 for a sample"))
}
