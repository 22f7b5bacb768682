//! Compares the loops with the goals of this project.

use super::super::plan::{KIB, MIB};
use super::plan::Contender::{
    self, Chunks, ChunksMemcpy, CpSync, DirectWrite, Evict, EvictMemcpy, EvictThreads, NumpyMemmapUtils,
    Plain, Stream,
};
use super::plan::{Loop, Match, THREADS};
use super::report::{Summary, loop_name};

/// The maximum memory that a loop may use in addition to its chunks, including page cache.
const WINDOW_BYTES: u64 = 64 * MIB;

/// What a goal limits.
#[derive(Clone, Copy)]
enum Limit {
    /// The time of the contender, divided by the time of a rival.
    Time(Contender, f64),
    /// The speed of the contender, divided by the speed of a rival.
    Speed(Contender, f64),
    /// The memory and page cache that the loop uses in addition to this many chunks.
    PeakChunks(u64),
    /// The bytes read from disk, divided by the bytes of the file.
    Read(f64),
}

/// Returns the goals of a match, each with the contender that must meet it.
fn goals(one: &Match) -> Vec<(Contender, Limit)> {
    use Limit::{PeakChunks, Read, Speed, Time};
    match one.work {
        Loop::Copy => copy_goals(one.chunk_bytes),
        Loop::Down => vec![
            (Evict, Time(Plain, 1.5)),
            (Evict, PeakChunks(2)),
            (EvictMemcpy, Time(Plain, 1.5)),
            (EvictMemcpy, PeakChunks(2)),
        ],
        Loop::Third | Loop::Random => vec![(Evict, Time(Plain, 1.5)), (Evict, PeakChunks(2))],
        Loop::Fill if one.chunk_bytes == MIB => vec![(Evict, Time(DirectWrite, 1.3))],
        Loop::Fill => Vec::new(),
        Loop::Sum => vec![(Evict, Time(Plain, 1.1))],
        // Every thread has chunks of its own.
        Loop::Threads => {
            vec![(EvictThreads, Time(Evict, 1.0)), (EvictThreads, PeakChunks(2 * THREADS as u64))]
        }
        Loop::Fortran | Loop::Narrow | Loop::Unaligned => [Evict, Chunks]
            .into_iter()
            .flat_map(|contender| [(contender, Read(1.1)), (contender, Time(Plain, 1.2))])
            .collect(),
    }
    .into_iter()
    .chain(speed_over_the_python_class(one).map(|ratio| (Evict, Speed(NumpyMemmapUtils, ratio))))
    .collect()
}

fn copy_goals(chunk_bytes: u64) -> Vec<(Contender, Limit)> {
    use Limit::{PeakChunks, Time};
    let mut goals = vec![
        (Evict, Time(Stream, 1.6)),
        (Evict, Time(CpSync, 1.0)),
        (Evict, PeakChunks(3)),
        (EvictMemcpy, Time(Evict, 1.1)),
        (ChunksMemcpy, Time(Chunks, 1.1)),
    ];
    if chunk_bytes >= MIB {
        goals.push((Chunks, Time(Stream, 1.25)));
    }
    goals
}

fn speed_over_the_python_class(one: &Match) -> Option<f64> {
    const RATIOS: [(u64, f64); 4] = [(256 * KIB, 4.0), (MIB, 2.5), (8 * MIB, 4.0), (64 * MIB, 3.5)];
    let found = RATIOS.into_iter().find(|(chunk_bytes, _)| *chunk_bytes == one.chunk_bytes);
    found.filter(|_| one.work == Loop::Copy).map(|(_, ratio)| ratio)
}

/// Prints every goal of contenders that ran or were too slow, with the measured value.
pub fn print(matches: &[Match], summaries: &[Summary]) {
    println!();
    for one in matches {
        for (contender, limit) in goals(one) {
            print_goal(one, summaries, contender, limit);
        }
    }
}

fn print_goal(one: &Match, summaries: &[Summary], contender: Contender, limit: Limit) {
    let of = |contender| summaries.iter().find(|summary| summary.is_of(one, contender));
    let seconds = |contender| of(contender).and_then(Summary::median_seconds);
    let rival = match limit {
        Limit::Time(rival, _) | Limit::Speed(rival, _) => rival,
        Limit::PeakChunks(_) | Limit::Read(_) => contender,
    };
    let (Some(summary), Some(rival_summary)) = (of(contender), of(rival)) else { return };
    if summary.is_untried() || rival_summary.is_untried() {
        return;
    }
    let (what, goal, measured, met) = match limit {
        Limit::Time(rival, most) => {
            let ratio = seconds(contender).zip(seconds(rival)).map(|(ours, rival)| ours / rival);
            (
                format!("time / {}", rival.name()),
                format!("<= {most}"),
                ratio,
                ratio.map(|ratio| ratio <= most),
            )
        }
        Limit::Speed(rival, least) => {
            let ratio = seconds(contender).zip(seconds(rival)).map(|(ours, rival)| rival / ours);
            (
                format!("speed / {}", rival.name()),
                format!(">= {least}"),
                ratio,
                ratio.map(|ratio| ratio >= least),
            )
        }
        Limit::PeakChunks(chunks) => {
            let most = (WINDOW_BYTES + chunks * one.chunk_bytes) as f64 / MIB as f64;
            let peak = summary.peak_bytes().map(|bytes| bytes as f64 / MIB as f64);
            ("peak MiB".to_owned(), format!("<= {most}"), peak, peak.map(|peak| peak <= most))
        }
        Limit::Read(most) => {
            let ratio = summary.read_bytes().map(|read| read as f64 / summary.data_bytes as f64);
            ("bytes read / file".to_owned(), format!("<= {most}"), ratio, ratio.map(|ratio| ratio <= most))
        }
    };
    let name = format!("{} {}: {what}", loop_name(one.work, one.cache, one.chunk_bytes), contender.name());
    let measured = measured.map_or("-".to_owned(), |value| format!("{value:.2}"));
    let failed = |summary: &Summary| summary.runs.is_empty();
    let verdict = match met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None if failed(summary) => "MISSED, because the loop failed",
        None if matches!(limit, Limit::Speed(..)) => "met, because the rival failed",
        None => "not measured, because the rival failed",
    };
    println!("goal {name:<58} {goal:>9} measured {measured:>8} {verdict}");
}
