//! Writes the results of the benchmark of loops, as tables and as JSON.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;

use super::super::plan::{Cache, MIB};
use super::super::report::size;
use super::super::results::median;
use super::super::trial::{Outcome, Run};
use super::plan::{Contender, Loop, Match};

/// All runs of one contender in one match.
pub struct Summary {
    pub work: Loop,
    pub cache: Cache,
    pub chunk_bytes: u64,
    pub contender: Contender,
    /// The bytes of the elements of the source.
    pub data_bytes: u64,
    pub runs: Vec<Run>,
    /// The reason why the contender did not run, or why it has failed.
    pub problem: Option<String>,
}

impl Summary {
    pub fn of_match(one: &Match, size_bytes: u64) -> Vec<Self> {
        let data_bytes = one.work.rows(size_bytes) as u64 * one.work.row_bytes();
        let new = |&contender| Self {
            work: one.work,
            cache: one.cache,
            chunk_bytes: one.chunk_bytes,
            contender,
            data_bytes,
            runs: Vec::new(),
            problem: None,
        };
        one.contenders.iter().map(new).collect()
    }

    pub fn is_of(&self, one: &Match, contender: Contender) -> bool {
        let key = (self.work, self.cache, self.chunk_bytes, self.contender);
        key == (one.work, one.cache, one.chunk_bytes, contender)
    }

    /// Returns whether there was no time to run the contender, or the machine lacks what it needs.
    pub fn is_untried(&self) -> bool {
        self.runs.is_empty() && self.problem.as_ref().is_none_or(|problem| problem.starts_with("SKIPPED"))
    }

    pub fn record(&mut self, outcome: Outcome) {
        let name =
            format!("{} {}", loop_name(self.work, self.cache, self.chunk_bytes), self.contender.name());
        match outcome {
            Outcome::Done(run) => {
                eprintln!("{name}: {:.3} s", run.measured.seconds);
                self.runs.push(run);
            }
            Outcome::Skipped(reason) => self.problem = Some(format!("SKIPPED: {reason}")),
            Outcome::Failed(reason) => {
                eprintln!("{name}: FAILED: {reason}");
                self.problem = Some(format!("FAILED: {reason}"));
            }
        }
    }

    pub fn median_seconds(&self) -> Option<f64> {
        median(self.runs.iter().map(|run| run.measured.seconds))
    }

    pub fn best_seconds(&self) -> Option<f64> {
        self.runs.iter().map(|run| run.measured.seconds).min_by(f64::total_cmp)
    }

    /// Returns the peak of memory and page cache together, from the run with the highest peak.
    pub fn peak_bytes(&self) -> Option<u64> {
        self.runs.iter().map(|run| run.peak_bytes).max()
    }

    /// Returns the bytes read from disk, from the run that read the most.
    pub fn read_bytes(&self) -> Option<u64> {
        self.runs.iter().map(|run| run.measured.read_bytes).max()
    }
}

/// Describes a loop in one line.
pub fn loop_name(work: Loop, cache: Cache, chunk_bytes: u64) -> String {
    let chunk = if chunk_bytes < 1024 { "1 row".to_owned() } else { size(chunk_bytes) };
    format!("{} {} {chunk}", work.name(), cache.name())
}

/// Returns the contender with which the goals compare the others.
pub fn reference(work: Loop) -> Contender {
    match work {
        Loop::Copy => Contender::Stream,
        Loop::Fill => Contender::DirectWrite,
        Loop::Threads => Contender::Evict,
        _ => Contender::Plain,
    }
}

/// Prints one table for each match.
pub fn print_tables(matches: &[Match], summaries: &[Summary]) {
    for one in matches {
        let reference = reference(one.work);
        let of = |contender| summaries.iter().find(|summary| summary.is_of(one, contender));
        let reference_seconds = of(reference).and_then(Summary::median_seconds);
        println!("\n{}", loop_name(one.work, one.cache, one.chunk_bytes));
        println!(
            "  {:<18} {:>9} {:>9} {:>17} {:>9} {:>9} {:>6}",
            "contender",
            "median s",
            "best s",
            format!("/ {}", reference.name()),
            "peak MiB",
            "read MiB",
            "rounds"
        );
        one.contenders.iter().filter_map(|&contender| of(contender)).for_each(|summary| {
            println!("{}", line(summary, reference_seconds));
        });
    }
    print_legend(summaries);
}

fn line(summary: &Summary, reference_seconds: Option<f64>) -> String {
    let name = summary.contender.name();
    let problem = summary.problem.as_deref();
    let (Some(seconds), Some(best)) = (summary.median_seconds(), summary.best_seconds()) else {
        return format!("  {name:<18} {}", problem.unwrap_or("not run"));
    };
    let ratio = reference_seconds.map_or("-".to_owned(), |reference| format!("{:.2}", seconds / reference));
    let mib = |bytes: Option<u64>| {
        bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / MIB as f64))
    };
    format!(
        "  {name:<18} {seconds:>9.3} {best:>9.3} {ratio:>17} {:>9} {:>9} {:>6}  {}",
        mib(summary.peak_bytes()),
        mib(summary.read_bytes()),
        summary.runs.len(),
        problem.unwrap_or_default(),
    )
}

fn print_legend(summaries: &[Summary]) {
    println!("\nratio: median seconds divided by those of the contender named in the head of the column");
    let mut named: Vec<Contender> = Vec::new();
    for summary in summaries {
        if !named.contains(&summary.contender) {
            named.push(summary.contender);
            println!("  {:<18} {}", summary.contender.name(), summary.contender.meaning());
        }
    }
}

/// Writes a list with one JSON object for each contender that ran.
pub fn write_json(summaries: &[Summary], path: &Path) -> io::Result<()> {
    let objects: Vec<_> = summaries.iter().map(object).collect();
    fs::write(path, serde_json::to_string_pretty(&objects)? + "\n")
}

fn object(summary: &Summary) -> serde_json::Value {
    json!({
        "loop": summary.work.name(),
        "cache": summary.cache.name(),
        "caller_chunk_bytes": summary.chunk_bytes,
        "contender": summary.contender.name(),
        "rounds": summary.runs.len(),
        "median_s": summary.median_seconds(),
        "best_s": summary.best_seconds(),
        "peak_bytes": summary.peak_bytes(),
        "read_bytes": summary.read_bytes(),
        "problem": summary.problem,
    })
}
