//! [`Job`]: a pipeline that can be run.

use super::blocks::Blocks;
use super::budget::{BLOCK_BYTES, Budget, Plan, RowCost};
use super::chunked::Rows;
use super::pipeline::Stream;
use super::stage::{Choices, RowBytes, Stage, row_bytes_of, rows_of};
use super::threads;
use super::workers::{self, Progress};
use crate::error::{Error, Result};
use crate::io::Transfer;
use std::path::Path;

/// The steps of a pipeline, with their source opened, and the settings of the stream.
#[derive(Debug)]
pub(super) struct Job<S> {
    pub(super) stage: S,
    pub(super) transfer: Transfer,
    pub(super) budget: Budget,
    /// The number of threads that the caller has set. It is one if the pipeline must run on the calling thread alone.
    threads: Option<usize>,
    /// Whether reductions ignore NaN.
    pub(super) skips_nan: bool,
}

impl<'p, S: Rows> Stream<'p, S> {
    /// Runs a stream as [`run`](Self::run) does. The closure `end` calls functions of the caller.
    pub(super) fn run_with_functions<R>(
        self,
        operation: &'static str,
        end: impl FnOnce(&mut Job<S>, &mut Progress<'p>) -> Result<R>,
    ) -> Result<R> {
        self.run_as(true, operation, None, end)
    }

    /// Runs the stream: opens the source, then calls `end`.
    ///
    /// Steps and threads do not know which function the caller called, so their errors name the operation `stream`.
    /// This method replaces that name by `operation`. If an error has no path, this method adds the path of the file
    /// that is written, or else of the file that is read.
    pub(super) fn run<R>(
        self,
        operation: &'static str,
        written: Option<&Path>,
        end: impl FnOnce(&mut Job<S>, &mut Progress<'p>) -> Result<R>,
    ) -> Result<R> {
        self.run_as(false, operation, written, end)
    }

    fn run_as<R>(
        self,
        calls_functions: bool,
        operation: &'static str,
        written: Option<&Path>,
        end: impl FnOnce(&mut Job<S>, &mut Progress<'p>) -> Result<R>,
    ) -> Result<R> {
        let named = |error: Error| match written {
            Some(path) => error.during(operation).at(path),
            None => error.during(operation),
        };
        let (mut job, mut progress) = self.into_job(calls_functions).map_err(named)?;
        end(&mut job, &mut progress).map_err(|error| {
            let mut read = None;
            job.stage
                .reads(&mut |reader, _| _ = read.get_or_insert_with(|| reader.mapping().path().to_owned()));
            match read {
                Some(path) => named(error).at(&path),
                None => named(error),
            }
        })
    }

    /// Opens the source. Returns an error if one of the calls that created this stream was not valid.
    fn into_job(self, calls_functions: bool) -> Result<(Job<S>, Progress<'p>)> {
        let Self { mut stage, failed, budget, transfer, threads, skips_nan, report } = self;
        // If the array is closed, this error is returned first. A closed array has no rows, so each selection of its
        // rows has failed, too.
        stage.prepare(Choices { transfer, chunk_rows: budget.chosen_rows() })?;
        failed.map_or(Ok(()), Err)?;
        // The budget covers lists of selected rows, unless they would leave too little memory for large blocks.
        let budget = budget.less(stage.held_bytes().min(budget.memory_bytes() / 2));
        let calls_functions = calls_functions || report.is_some() || stage.calls_functions();
        let threads = if workers::must_run_alone(calls_functions) { Some(1) } else { threads };
        let progress = Progress::new(report, rows_of(&stage.shape()));
        Ok((Job { stage, transfer, budget, threads, skips_nan }, progress))
    }
}

impl<S: Rows> Job<S> {
    pub(super) fn rows(&self) -> usize {
        rows_of(&self.stage.shape())
    }

    /// Returns the number of threads that the caller has set, or else `threads`.
    pub(super) fn threads_or(&self, threads: usize) -> usize {
        self.threads.unwrap_or(threads)
    }

    /// Returns the number of threads that load rows: enough to keep the disk busy, or every core if the source is in
    /// memory.
    pub(super) fn threads_to_read(&self) -> usize {
        self.threads_or(if self.stage.is_warm() { threads::cores() } else { threads::threads() })
    }

    /// Divides the rows into blocks for functions of the caller.
    pub(super) fn plan_chunks(&self, threads: usize) -> Plan {
        self.plan_within(self.budget, self.stage.row_bytes(), threads)
    }

    fn plan_within(&self, budget: Budget, row: RowBytes, threads: usize) -> Plan {
        // If each row is scattered over the file, loading any block reads nearly the whole file. So there are as few
        // blocks as possible, and one thread processes the blocks in order.
        let (block_bytes, threads) = if row.scattered { (usize::MAX, 1) } else { (BLOCK_BYTES, threads) };
        let cost =
            RowCost { widest_bytes: row.widest, total_bytes: row.total, rows: self.rows(), block_bytes };
        budget.plan(cost, threads)
    }
}

impl<S: Stage> Job<S> {
    /// Divides the rows into blocks for a reduction. Each thread reduces its blocks to a partial result of `part_bytes`
    /// bytes, and one more part is needed for the final result.
    pub(super) fn plan_for_parts(&self, threads: usize, part_bytes: usize) -> Plan {
        let for_parts = self.budget.memory_bytes() / 2;
        let threads = threads.min((for_parts / part_bytes.max(1)).saturating_sub(1)).max(1);
        self.plan_beside(part_bytes.saturating_mul(threads + 1), threads)
    }

    /// Divides the rows into blocks for a reduction, if `taken` bytes of the budget are used for something else.
    pub(super) fn plan_beside(&self, taken: usize, threads: usize) -> Plan {
        // A block that is not in standard layout is first copied.
        let is_copied = !self.stage.is_standard_layout();
        let extra_bytes = if is_copied { row_bytes_of::<S::Item, S::Dim>(&self.stage.shape()) } else { 0 };
        self.plan_within(self.budget.less(taken), self.stage.row_bytes().and(extra_bytes), threads)
    }

    /// Divides the rows into blocks. Each row needs `extra_bytes` in addition to the buffers of the steps.
    pub(super) fn plan(&self, extra_bytes: usize, threads: usize) -> Plan {
        self.plan_within(self.budget, self.stage.row_bytes().and(extra_bytes), threads)
    }

    /// Finds the blocks that contain data, and the holes between them.
    pub(super) fn blocks(&self, plan: &Plan) -> Result<Blocks> {
        Blocks::find(self.rows(), plan.block_rows, |rows| self.stage.next_data(rows))
    }
}
