//! [`Job`]: a pipeline that is ready to run.

use super::Stream;
use super::budget::{BLOCK_BYTES, Budget, Plan, RowCost};
use super::stage::{Choices, Stage, row_bytes_of, rows_of};
use super::threads;
use super::workers::Progress;
use crate::error::Result;
use crate::io::Transfer;

/// The steps of a pipeline with their source open, and the choices that were made for it.
#[derive(Debug)]
pub(super) struct Job<S> {
    pub(super) stage: S,
    pub(super) transfer: Transfer,
    pub(super) budget: Budget,
    threads: Option<usize>,
}

impl<'p, S: Stage> Stream<'p, S> {
    /// Opens the source, or says what was wrong with the calls that made this stream.
    pub(super) fn into_job(self) -> Result<(Job<S>, Progress<'p>)> {
        let Self { mut stage, budget, transfer, threads, report } = self;
        stage.prepare(Choices { transfer, chunk_rows: budget.chunk_rows() })?;
        let progress = Progress::new(report, rows_of(&stage.shape()));
        Ok((Job { stage, transfer, budget, threads }, progress))
    }
}

impl<S: Stage> Job<S> {
    pub(super) fn rows(&self) -> usize {
        rows_of(&self.stage.shape())
    }

    /// How many threads the caller has asked for, or this many.
    pub(super) fn threads_or(&self, threads: usize) -> usize {
        self.threads.unwrap_or(threads)
    }

    /// How many threads look at rows: enough to read ahead, or, where there is nothing to wait for, enough for the work.
    pub(super) fn threads_to_read(&self) -> usize {
        self.threads_or(if self.stage.is_warm() { threads::cores() } else { threads::threads() })
    }

    /// The same for blocks that are reduced to parts of `part_bytes`: each thread has one in hand, and one is the result.
    pub(super) fn plan_for_parts(&self, threads: usize, part_bytes: usize) -> Plan {
        let row = self.stage.row_bytes();
        // A block of scattered rows is put in order first.
        let extra_bytes =
            if row.scattered { row_bytes_of::<S::Item, S::Dim>(&self.stage.shape()) } else { 0 };
        let for_parts = self.budget.memory_bytes() / 2;
        let threads = threads.min((for_parts / part_bytes.max(1)).saturating_sub(1)).max(1);
        let taken = part_bytes.saturating_mul(threads + 1);
        self.plan_within(self.budget.less(taken), extra_bytes, threads)
    }

    /// How rows are cut into blocks if each takes `extra_bytes` beside what the steps take.
    pub(super) fn plan(&self, extra_bytes: usize, threads: usize) -> Plan {
        self.plan_within(self.budget, extra_bytes, threads)
    }

    fn plan_within(&self, budget: Budget, extra_bytes: usize, threads: usize) -> Plan {
        let row = self.stage.row_bytes().and(extra_bytes);
        // Of scattered rows, each block costs a walk through the whole file.
        let (block_bytes, threads) = if row.scattered { (usize::MAX, 1) } else { (BLOCK_BYTES, threads) };
        let cost =
            RowCost { widest_bytes: row.widest, total_bytes: row.total, rows: self.rows(), block_bytes };
        budget.plan(cost, threads)
    }
}
