//! Makes the job of a contender, and runs it once.

use std::io;
use std::time::Duration;

use super::child;
use super::files::Files;
use super::job::Job;
use super::plan::{Cache, Entry, LIMIT_BYTES, Match, SMALL_BUDGET_RATIO, Work};
use super::trial::{self, Outcome, Trial};

/// A contender that takes longer is killed.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// Makes the job of a contender in this match.
pub fn job(files: &Files, one: &Match, entry: Entry) -> io::Result<Job> {
    let columns = one.work.columns();
    let row_bytes = columns * size_of::<f32>();
    let rows = one.source_bytes as usize / row_bytes;
    let source = files.source(one.work, one.source_bytes)?;
    let extension = source.extension().unwrap_or_default();
    let target = files.outputs().join("target").with_extension(extension);
    let index = if one.work.is_gather() { Some(files.index(one.work, rows)?) } else { None };
    let budget = if one.work == Work::CopySmallBudget { one.source_bytes / SMALL_BUDGET_RATIO } else { 0 };
    Ok(Job {
        contender: entry.contender,
        work: one.work,
        source,
        target,
        rows,
        columns,
        chunk_rows: entry.chunk_bytes as usize / row_bytes,
        budget_bytes: budget as usize,
        index,
    })
}

/// Runs the contender once. The output stays, so that the caller can verify it.
pub fn run(files: &Files, job: &Job, cache: Cache) -> io::Result<Outcome> {
    let memory_limit = (job.work == Work::CopyLimited).then_some(LIMIT_BYTES);
    let source_bytes = job.source_bytes();
    let trial = Trial {
        job,
        command: trial::command(job.contender.is_numpy(), child::ARGUMENT)?,
        source: &job.source,
        cache,
        touched_bytes: memory_limit.unwrap_or(source_bytes + job.work.target_bytes(source_bytes)),
        memory_limit,
        time_limit: TIME_LIMIT,
    };
    trial.run(files)
}
