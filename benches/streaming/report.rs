//! Prints the results as a table, and writes them as JSON.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;

use super::plan::{Contender, GIB, KIB, MIB};
use super::results::{Results, Summary};

/// Prints every summary, one block for each match.
pub fn print_table(results: &Results) {
    let mut previous: Option<&Summary> = None;
    for summary in &results.0 {
        if !previous.is_some_and(|previous| previous.same_match(summary)) {
            print_head(summary);
        }
        println!("{}", line(results, summary));
        previous = Some(summary);
    }
    println!(
        "\nratio: seconds of the contender divided by ours (with the same chunk size if both have one); above 1, this crate is faster"
    );
    print_legend(results);
}

fn print_head(summary: &Summary) {
    println!("\n{}, {}, {}", summary.work.name(), summary.cache.name(), size(summary.source_bytes));
    println!(
        "  {:<23} {:>8} {:>9} {:>7} {:>7} {:>7} {:>10} {:>10} {:>10} {:>6}",
        "contender",
        "chunk",
        "median s",
        "GiB/s",
        "ratio",
        "cpu s",
        "peak RSS",
        "peak cache",
        "peak both",
        "rounds"
    );
}

fn line(results: &Results, summary: &Summary) -> String {
    let name = summary.entry.contender.name();
    let chunk = if summary.entry.chunk_bytes == 0 { "-".to_owned() } else { size(summary.entry.chunk_bytes) };
    let (Some(seconds), Some(cpu)) = (summary.median_seconds(), summary.cpu_seconds()) else {
        let problem = summary.problem.as_deref().unwrap_or("not run");
        return format!("  {name:<23} {chunk:>8} {problem}");
    };
    let ours = results.ours_against(summary).and_then(Summary::median_seconds);
    let ratio = ours.map_or("-".to_owned(), |ours| format!("{:.2}", seconds / ours));
    let throughput = summary.throughput().unwrap_or(0.0) / GIB as f64;
    let mut line = format!(
        "  {name:<23} {chunk:>8} {seconds:>9.3} {throughput:>7.2} {ratio:>7} {cpu:>7.2} {:>10} {:>10} {:>10} {:>6}",
        size(summary.peak_rss_bytes()),
        size(summary.peak_cache_bytes()),
        size(summary.peak_bytes()),
        summary.runs.len(),
    );
    if let Some(problem) = &summary.problem {
        line.push_str("  ");
        line.push_str(problem);
    }
    line
}

fn print_legend(results: &Results) {
    let mut named: Vec<Contender> = Vec::new();
    for summary in &results.0 {
        if !named.contains(&summary.entry.contender) {
            named.push(summary.entry.contender);
            println!("  {:<23} {}", summary.entry.contender.name(), summary.entry.contender.meaning());
        }
    }
}

/// Formats a number of bytes in the largest unit in which the number is at least one.
pub fn size(bytes: u64) -> String {
    let (unit, name) = match bytes {
        GIB.. => (GIB, "GiB"),
        MIB.. => (MIB, "MiB"),
        _ => (KIB, "KiB"),
    };
    let value = bytes as f64 / unit as f64;
    if value.fract() < 0.05 { format!("{value:.0} {name}") } else { format!("{value:.1} {name}") }
}

/// Writes a list with one JSON object for each contender that ran.
pub fn write_json(results: &Results, path: &Path) -> io::Result<()> {
    let ran = results.0.iter().filter(|summary| !summary.runs.is_empty());
    let objects: Vec<_> = ran.map(object).collect();
    fs::write(path, serde_json::to_string_pretty(&objects)? + "\n")
}

fn object(summary: &Summary) -> serde_json::Value {
    json!({
        "work": summary.work.name(),
        "cache": summary.cache.name(),
        "bytes": summary.source_bytes,
        "caller_chunk_bytes": summary.entry.chunk_bytes,
        "contender": summary.entry.contender.name(),
        "rounds": summary.runs.len(),
        "median_s": summary.median_seconds(),
        "cpu_s": summary.cpu_seconds(),
        "peak_bytes": summary.peak_bytes(),
    })
}
