//! The benchmark itself: its plan, its rounds and its reports.

mod cgroup;
mod chart;
mod child;
mod cleanup;
mod files;
mod goals;
mod job;
mod loops;
mod machine;
mod mapped;
mod matches;
mod options;
mod os;
mod ours;
mod plan;
mod programs;
mod raw;
mod report;
mod results;
mod runner;
mod sampler;
mod trial;
#[cfg(target_arch = "x86_64")]
mod uring;
mod verify;

use std::collections::HashSet;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use files::Files;
use options::Options;
use plan::{Contender, Entry, Match, Work};
use results::Results;
use trial::Outcome;

/// With `--quick`, no run starts after this time.
const QUICK_TIME: Duration = Duration::from_secs(105);

/// Runs the benchmark. If this process was started by the benchmark as the process of a contender, runs only this
/// contender.
pub fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some(child::ARGUMENT) => return exit_code(child::serve(child::measure)),
        Some(loops::ARGUMENT) => return exit_code(child::serve(loops::measure)),
        _ => {}
    }
    if std::env::args().any(|argument| argument == loops::OPTION) {
        return loops::main();
    }
    match Options::parse(std::env::args().skip(1)) {
        Ok(options) if !options.started_by_cargo_bench => {
            println!("SKIPPED: not started by `cargo bench`");
            ExitCode::SUCCESS
        }
        Ok(options) => exit_code(bench(&options)),
        Err(problem) => {
            println!("{problem}\n{}", options::USAGE);
            if problem.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

fn exit_code(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(options: &Options) -> io::Result<()> {
    cleanup::on_stop_signals();
    let matches = matches::matches(options);
    let files = Files::create(options.dir.as_deref(), files::needed_bytes(&matches))?;
    machine::print(files.folder())?;
    let results = run_rounds(options, &files, &matches)?;
    report::print_table(&results);
    if options.goals {
        goals::print(&results);
    }
    if let Some(path) = &options.json {
        report::write_json(&results, path)?;
    }
    if let Some(path) = &options.svg {
        chart::draw(&results, path)?;
    }
    Ok(())
}

fn run_rounds(options: &Options, files: &Files, matches: &[Match]) -> io::Result<Results> {
    let deadline = options.quick.then(|| Instant::now() + QUICK_TIME);
    let mut bench = Bench { files, results: Results::new(matches), verified: HashSet::new(), deadline };
    bench.warm_up(matches)?;
    for round in 0..options.rounds() {
        let round_start = Instant::now();
        matches.iter().try_for_each(|one| bench.run_match(one, round))?;
        eprintln!("round {} took {:.0} s", round + 1, round_start.elapsed().as_secs_f64());
        if deadline.is_some_and(|deadline| Instant::now() + round_start.elapsed() > deadline) {
            break;
        }
    }
    Ok(bench.results)
}

struct Bench<'a> {
    files: &'a Files,
    results: Results,
    /// The works and contenders whose output was compared with the expected output.
    verified: HashSet<(Work, Contender)>,
    deadline: Option<Instant>,
}

impl Bench<'_> {
    /// Makes the sources, and runs the first contender once without recording the result, because the first run is
    /// slower than later runs.
    fn warm_up(&self, matches: &[Match]) -> io::Result<()> {
        matches.iter().try_for_each(|one| self.files.source(one.work, one.source_bytes).map(drop))?;
        let Some(first) = matches.first() else { return Ok(()) };
        let job = runner::job(self.files, first, first.entries[0])?;
        runner::run(self.files, &job, first.cache).map(drop)
    }

    /// Runs every contender of a match once. Every second round runs the contenders in reverse order.
    fn run_match(&mut self, one: &Match, round: usize) -> io::Result<()> {
        let mut entries = one.entries.clone();
        if round % 2 == 1 {
            entries.reverse();
        }
        entries.into_iter().try_for_each(|entry| self.run_entry(one, entry))
    }

    fn run_entry(&mut self, one: &Match, entry: Entry) -> io::Result<()> {
        if self.results.of(one, entry).is_none_or(|summary| summary.problem.is_some()) {
            return Ok(());
        }
        if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            self.record(one, entry, Outcome::Skipped("no time left".to_owned()));
            return Ok(());
        }
        let job = runner::job(self.files, one, entry)?;
        let mut outcome = runner::run(self.files, &job, one.cache)?;
        if matches!(outcome, Outcome::Done(_)) && self.verified.insert((one.work, entry.contender)) {
            if let Err(error) = verify::verify(&job) {
                outcome = Outcome::Failed(format!("wrong output: {error}"));
            }
        }
        self.record(one, entry, outcome);
        Ok(())
    }

    fn record(&mut self, one: &Match, entry: Entry, outcome: Outcome) {
        let name = format!("{} {} {}", one.work.name(), one.cache.name(), entry.contender.name());
        let Some(summary) = self.results.of(one, entry) else { return };
        match outcome {
            Outcome::Done(run) => {
                eprintln!("{name} {}: {:.3} s", report::size(entry.chunk_bytes), run.measured.seconds);
                summary.runs.push(run);
            }
            Outcome::Skipped(reason) => {
                println!("SKIPPED {name}: {reason}");
                summary.problem = Some(format!("SKIPPED: {reason}"));
            }
            Outcome::Failed(reason) => {
                println!("FAILED {name}: {reason}");
                summary.problem = Some(format!("FAILED: {reason}"));
            }
        }
    }
}
