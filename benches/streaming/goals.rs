//! Compares the measured times and memory with the goals of this project.

use super::plan::Cache::{Cold, Warm};
use super::plan::Contender::*;
use super::plan::{Cache, Contender, KIB, MIB, SMALL_BUDGET_RATIO, Work};
use super::report::size;
use super::results::{Results, Summary};

const DIRECT: &[Contender] = &[DdDirect, DirectOneWorker, DirectTwoWorkers];
const BARE_READS: &[Contender] = &[SequentialRead, SequentialReadDirect];
/// The default budget of a stream.
const BUDGET_BYTES: u64 = 64 * MIB;
/// How much memory a stream may use beyond its budget.
const ALLOWANCE_BYTES: u64 = 16 * MIB;

/// A goal: this crate must be at least `ratio` times as fast as the fastest of `rivals`.
struct Goal {
    work: Work,
    cache: Cache,
    ours: Contender,
    rivals: &'static [Contender],
    chunk_bytes: Option<u64>,
    ratio: f64,
}

impl Goal {
    const fn new(work: Work, cache: Cache, rivals: &'static [Contender], ratio: f64) -> Self {
        Self { work, cache, ours: Ours, rivals, chunk_bytes: None, ratio }
    }

    const fn at_chunk(mut self, bytes: u64) -> Self {
        self.chunk_bytes = Some(bytes);
        self
    }

    const fn by(mut self, ours: Contender) -> Self {
        self.ours = ours;
        self
    }
}

const GOALS: &[Goal] = &[
    Goal::new(Work::Copy, Cold, DIRECT, 0.95),
    Goal::new(Work::Copy, Cold, &[CpSync], 1.5),
    Goal::new(Work::Copy, Cold, &[NumpyMemmapUtils], 1.3),
    Goal::new(Work::Copy, Cold, &[NumpyMemmapUtils], 5.0).at_chunk(256 * KIB),
    Goal::new(Work::Copy, Warm, &[CpSync], 1.9),
    Goal::new(Work::Copy, Warm, &[NumpyMemmapUtils], 2.2),
    Goal::new(Work::Scale, Warm, &[NumpyChunks], 2.0),
    Goal::new(Work::Cast, Warm, &[NumpyChunks], 1.8),
    Goal::new(Work::Cast, Cold, &[NumpyChunks], 1.2),
    Goal::new(Work::Cast, Cold, &[DirectSameBytes], 0.95),
    Goal::new(Work::HalfColumns, Warm, &[NumpyChunks], 2.8),
    Goal::new(Work::HalfColumns, Cold, &[NumpyChunks], 1.7),
    Goal::new(Work::GatherSmallSorted, Cold, &[NumpyFancy], 6.0),
    Goal::new(Work::GatherSmallRandom, Cold, &[NumpyFancy], 6.0),
    Goal::new(Work::GatherSmallSorted, Cold, &[UringDirect], 0.85),
    Goal::new(Work::GatherSmallRandom, Cold, &[UringDirect], 0.85),
    Goal::new(Work::GatherLargeSorted, Cold, &[UringDirect], 0.85),
    Goal::new(Work::GatherLargeRandom, Cold, &[UringDirect], 0.85),
    Goal::new(Work::MeanAxis0, Cold, &[NumpyMean], 1.05),
    Goal::new(Work::MeanAxis0, Cold, &[SequentialRead], 0.95),
    Goal::new(Work::MeanAxis0, Warm, &[NumpyMean], 1.15).by(OursOneThread),
    Goal::new(Work::MeanAxis0, Warm, &[NumpyMean], 1.7).by(OursTwoThreads),
    Goal::new(Work::Mean, Warm, &[NumpyReduceChunks], 1.5).by(OursOneThread),
    Goal::new(Work::Mean, Warm, &[MappedRead], 0.7).by(OursOneThread),
    Goal::new(Work::Mean, Cold, BARE_READS, 0.95),
    Goal::new(Work::Var, Warm, &[NumpyReduceChunks], 1.5).by(OursOneThread),
    Goal::new(Work::Var, Cold, BARE_READS, 0.95),
    Goal::new(Work::MinMax, Warm, &[NumpyReduceChunks], 1.5).by(OursOneThread),
    Goal::new(Work::MinMax, Warm, &[MappedRead], 0.7).by(OursOneThread),
    Goal::new(Work::MinMax, Cold, BARE_READS, 0.95),
    Goal::new(Work::MedianAxis0, Warm, &[NumpyReduceChunks], 1.2).by(OursOneThread),
    Goal::new(Work::Zip, Cold, &[OursParts], 0.9),
    Goal::new(Work::Zip, Warm, &[OursParts], 0.9),
    Goal::new(Work::CopyLimited, Cold, &[CpSync], 1.25),
];

/// Prints every goal with the measured value.
pub fn print(results: &Results) {
    println!("\n{:<62} {:>6} {:>9}", "goal (seconds of the rival divided by ours)", "goal", "measured");
    for goal in GOALS {
        for source_bytes in sizes(results, goal.work, goal.cache) {
            print_goal(results, goal, source_bytes);
        }
    }
    println!("\n{:<62} {:>6} {:>9}", "goal (memory and page cache together)", "limit", "measured");
    results
        .0
        .iter()
        .filter(|one| one.entry.contender.is_ours() && !one.runs.is_empty())
        .for_each(print_memory);
}

fn sizes(results: &Results, work: Work, cache: Cache) -> Vec<u64> {
    let mut sizes: Vec<_> = results
        .0
        .iter()
        .filter(|one| one.work == work && one.cache == cache)
        .map(|one| one.source_bytes)
        .collect();
    sizes.dedup();
    sizes
}

fn print_goal(results: &Results, goal: &Goal, source_bytes: u64) {
    let rivals: Vec<_> = goal.rivals.iter().map(|rival| rival.name()).collect();
    let mut text = format!("{} {} {}", goal.work.name(), goal.cache.name(), size(source_bytes));
    text.push_str(&format!(": {} vs {}", goal.ours.name(), rivals.join("|")));
    if let Some(chunk_bytes) = goal.chunk_bytes {
        text.push_str(&format!(" at {}", size(chunk_bytes)));
    }
    let (measured, verdict) = match measured_ratio(results, goal, source_bytes) {
        Some(ratio) => (format!("{ratio:.2}"), verdict(ratio >= goal.ratio)),
        None => ("-".to_owned(), "not measured"),
    };
    println!("{text:<62} {:>6.2} {measured:>9}  {verdict}", goal.ratio);
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn measured_ratio(results: &Results, goal: &Goal, source_bytes: u64) -> Option<f64> {
    let is_rival = |one: &&Summary| {
        goal.rivals.contains(&one.entry.contender)
            && goal.chunk_bytes.is_none_or(|bytes| bytes == one.entry.chunk_bytes)
    };
    let in_match = || results.in_match(goal.work, goal.cache, source_bytes);
    let by_seconds = |a: &&Summary, b: &&Summary| a.median_seconds().partial_cmp(&b.median_seconds());
    let rival = in_match().filter(is_rival).min_by(|a, b| by_seconds(a, b).expect("medians are finite"))?;
    let ours = match goal.ours {
        Ours => results.ours_against(rival)?,
        other => in_match().find(|one| one.entry.contender == other)?,
    };
    Some(rival.median_seconds()? / ours.median_seconds()?)
}

fn print_memory(summary: &Summary) {
    let budget_bytes = match summary.work {
        Work::CopySmallBudget => summary.source_bytes / SMALL_BUDGET_RATIO,
        _ => BUDGET_BYTES,
    };
    let limit = budget_bytes + ALLOWANCE_BYTES;
    let entry = summary.entry;
    let mut text = format!("{} {} {}", summary.work.name(), summary.cache.name(), size(summary.source_bytes));
    text.push_str(&format!(": {}", entry.contender.name()));
    if entry.chunk_bytes > 0 {
        text.push_str(&format!(" at {}", size(entry.chunk_bytes)));
    }
    let peak = summary.peak_bytes();
    println!("{text:<62} {:>6} {:>9}  {}", size(limit), size(peak), verdict(peak <= limit));
}
