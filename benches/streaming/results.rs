//! The results of all runs, for each contender of each match.

use super::plan::{Cache, Contender, Entry, Match, Work};
use super::trial::Run;

/// All runs of one contender in one match.
pub struct Summary {
    pub work: Work,
    pub cache: Cache,
    pub source_bytes: u64,
    pub entry: Entry,
    pub runs: Vec<Run>,
    /// Why the contender did not run or has failed.
    pub problem: Option<String>,
}

impl Summary {
    fn new(one: &Match, entry: Entry) -> Self {
        let (work, cache, source_bytes) = (one.work, one.cache, one.source_bytes);
        Self { work, cache, source_bytes, entry, runs: Vec::new(), problem: None }
    }

    pub fn median_seconds(&self) -> Option<f64> {
        median(self.runs.iter().map(|run| run.measured.seconds))
    }

    pub fn cpu_seconds(&self) -> Option<f64> {
        median(self.runs.iter().map(|run| run.measured.cpu_seconds))
    }

    /// Returns the peak of memory and page cache together, from the run with the highest peak.
    pub fn peak_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.peak_bytes).max().unwrap_or(0)
    }

    pub fn peak_rss_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.measured.peak_rss_bytes).max().unwrap_or(0)
    }

    pub fn peak_cache_bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.peak_cache_bytes).max().unwrap_or(0)
    }

    /// Returns the bytes per second: the gathered bytes for a gather, and the bytes of the source for any other work.
    pub fn throughput(&self) -> Option<f64> {
        let moved = match self.work {
            work if work.is_gather() => work.target_bytes(self.source_bytes),
            _ => self.source_bytes,
        };
        self.median_seconds().map(|seconds| moved as f64 / seconds)
    }

    pub fn same_match(&self, other: &Self) -> bool {
        (self.work, self.cache, self.source_bytes) == (other.work, other.cache, other.source_bytes)
    }
}

/// All summaries, in the order of the plan.
pub struct Results(pub Vec<Summary>);

impl Results {
    pub fn new(matches: &[Match]) -> Self {
        let summaries =
            matches.iter().flat_map(|one| one.entries.iter().map(|&entry| Summary::new(one, entry)));
        Self(summaries.collect())
    }

    pub fn of(&mut self, one: &Match, entry: Entry) -> Option<&mut Summary> {
        let key = (one.work, one.cache, one.source_bytes, entry);
        self.0.iter_mut().find(|other| (other.work, other.cache, other.source_bytes, other.entry) == key)
    }

    /// Returns the summaries of the match with this work, page-cache state and size.
    pub fn in_match(&self, work: Work, cache: Cache, source_bytes: u64) -> impl Iterator<Item = &Summary> {
        self.0.iter().filter(move |one| {
            one.work == work && one.cache == cache && one.source_bytes == source_bytes && !one.runs.is_empty()
        })
    }

    /// Returns the summary of this crate in the same match, with the same chunk size if there is one.
    pub fn ours_against(&self, other: &Summary) -> Option<&Summary> {
        let ours = || {
            let candidates = self.0.iter().filter(|one| one.same_match(other));
            candidates.filter(|one| one.entry.contender == Contender::Ours && !one.runs.is_empty())
        };
        ours()
            .find(|one| one.entry.chunk_bytes == other.entry.chunk_bytes)
            .or_else(|| ours().find(|one| one.entry.chunk_bytes == 0))
    }
}

/// Returns the median: the middle value, or the mean of the two middle values if the number of values is even.
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}
