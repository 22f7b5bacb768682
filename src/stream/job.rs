//! [`Job`]: a pipeline that is ready to run.

use super::budget::{BLOCK_BYTES, Budget, Plan, RowCost};
use super::pipeline::Stream;
use super::stage::{Choices, Stage, row_bytes_of, rows_of};
use super::threads;
use super::workers::{self, Progress};
use crate::error::{Error, Result};
use crate::io::Transfer;
use std::path::Path;

/// The steps of a pipeline, with their source open, and the settings of the stream.
#[derive(Debug)]
pub(super) struct Job<S> {
    pub(super) stage: S,
    pub(super) transfer: Transfer,
    pub(super) budget: Budget,
    /// How many threads to use: as the caller has set it, or one where the pipeline must run alone.
    threads: Option<usize>,
}

impl<'p, S: Stage> Stream<'p, S> {
    /// Runs the stream: opens the source, then calls `end`.
    ///
    /// Steps and threads do not know which function the caller called: their errors say `stream`. Here every error gets the name of
    /// that function, and a path where it has none: that of the file that is written, or else of the file that is read.
    pub(super) fn run<R>(
        self,
        operation: &'static str,
        written: Option<&Path>,
        end: impl FnOnce(&mut Job<S>, &mut Progress<'p>) -> Result<R>,
    ) -> Result<R> {
        let named = |error: Error| match written {
            Some(path) => error.during(operation).at(path),
            None => error.during(operation),
        };
        let (mut job, mut progress) = self.into_job().map_err(named)?;
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

    /// Opens the source. Returns what was wrong with the calls that made this stream, if anything was.
    fn into_job(self) -> Result<(Job<S>, Progress<'p>)> {
        let Self { mut stage, budget, transfer, threads, report } = self;
        stage.prepare(Choices { transfer, chunk_rows: budget.chosen_rows() })?;
        let calls_functions = report.is_some() || stage.calls_functions();
        let threads = if workers::must_run_alone(calls_functions) { Some(1) } else { threads };
        let progress = Progress::new(report, rows_of(&stage.shape()));
        Ok((Job { stage, transfer, budget, threads }, progress))
    }
}

impl<S: Stage> Job<S> {
    pub(super) fn rows(&self) -> usize {
        rows_of(&self.stage.shape())
    }

    /// Returns how many threads to use where `threads` are best, unless the caller has set the number.
    pub(super) fn threads_or(&self, threads: usize) -> usize {
        self.threads.unwrap_or(threads)
    }

    /// Returns how many threads load rows: enough to keep the disk busy, or enough to keep every core busy if the source is
    /// in memory.
    pub(super) fn threads_to_read(&self) -> usize {
        self.threads_or(if self.stage.is_warm() { threads::cores() } else { threads::threads() })
    }

    /// Cuts the rows into blocks for a reduction: each thread reduces a block to a part of `part_bytes`, and one more part
    /// holds the result.
    pub(super) fn plan_for_parts(&self, threads: usize, part_bytes: usize) -> Plan {
        let row = self.stage.row_bytes();
        // A block of scattered rows is copied to standard layout first.
        let extra_bytes =
            if row.scattered { row_bytes_of::<S::Item, S::Dim>(&self.stage.shape()) } else { 0 };
        let for_parts = self.budget.memory_bytes() / 2;
        let threads = threads.min((for_parts / part_bytes.max(1)).saturating_sub(1)).max(1);
        let taken = part_bytes.saturating_mul(threads + 1);
        self.plan_within(self.budget.less(taken), extra_bytes, threads)
    }

    /// Cuts the rows into blocks, where each row takes `extra_bytes` in addition to the buffers of the steps.
    pub(super) fn plan(&self, extra_bytes: usize, threads: usize) -> Plan {
        self.plan_within(self.budget, extra_bytes, threads)
    }

    fn plan_within(&self, budget: Budget, extra_bytes: usize, threads: usize) -> Plan {
        let row = self.stage.row_bytes().and(extra_bytes);
        // Each block of scattered rows reads the whole file: as few blocks as possible, one after the other.
        let (block_bytes, threads) = if row.scattered { (usize::MAX, 1) } else { (BLOCK_BYTES, threads) };
        let cost =
            RowCost { widest_bytes: row.widest, total_bytes: row.total, rows: self.rows(), block_bytes };
        budget.plan(cost, threads)
    }
}
