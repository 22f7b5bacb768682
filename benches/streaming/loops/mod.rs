//! Loops over chunks of rows, as users write them: with this crate, with memmap2, with numpy, and with no eviction at
//! all.

mod goals;
mod mapped;
mod options;
mod ours;
mod plan;
mod report;
mod verify;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use super::files::{self, Files};
use super::job::Measured;
use super::plan::{Cache, GIB};
use super::trial::{self, Outcome, Trial};
use super::{child, cleanup, machine, os, programs, raw};
use options::Options;
use plan::{Contender, Job, Loop, Match};
use report::Summary;

/// The command-line argument that selects the benchmark of loops.
pub const OPTION: &str = "--loops";
/// The benchmark starts a process for each contender. This is the first argument of such a process.
pub const ARGUMENT: &str = "--loop-process";

/// Runs the loops that the arguments ask for.
pub fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(options) if !options.started_by_cargo_bench => {
            println!("SKIPPED: not started by `cargo bench`");
            ExitCode::SUCCESS
        }
        Ok(options) => super::exit_code(bench(&options)),
        Err(problem) => {
            println!("{problem}\n{}", options::USAGE);
            if problem.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// Runs one loop. This function is called in the process that the benchmark has started for the contender.
pub fn measure(job: &Job) -> io::Result<Measured> {
    let (sum, measured) = child::timed(|| match job.contender {
        Contender::CpSync => programs::cp_sync(&job.source, &job.target).map(|()| None),
        Contender::MemmapEvict | Contender::MemmapPlain => mapped::copy(job).map(|()| None),
        Contender::DirectWrite => {
            raw::write_only(&job.target, job.data_bytes().next_multiple_of(os::PAGE_BYTES)).map(|()| None)
        }
        _ => Ok(ours::run(job)?),
    })?;
    if let Some(sum) = sum {
        fs::write(&job.target, f64::to_ne_bytes(sum))?;
    }
    Ok(measured)
}

fn bench(options: &Options) -> io::Result<()> {
    cleanup::on_stop_signals();
    let matches = plan::matches(options);
    let files = Files::create(options.dir.as_deref(), 2 * options.size_bytes() + GIB / 2)?;
    machine::print(files.folder())?;
    let summaries = run_rounds(options, &files, &matches)?;
    report::print_tables(&matches, &summaries);
    goals::print(&matches, &summaries);
    match &options.json {
        Some(path) => report::write_json(&summaries, path),
        None => Ok(()),
    }
}

fn run_rounds(options: &Options, files: &Files, matches: &[Match]) -> io::Result<Vec<Summary>> {
    let deadline = options.quick.then(|| Instant::now() + super::QUICK_TIME);
    let summaries = matches.iter().flat_map(|one| Summary::of_match(one, options.size_bytes())).collect();
    let mut bench = Bench { options, files, summaries, verified: HashSet::new(), deadline };
    if let Some(first) = matches.first() {
        // The first run is slower than later runs, so it is not recorded.
        bench.run_once(first, first.contenders.first().copied().unwrap_or(Contender::Plain))?;
    }
    for round in 0..options.rounds() {
        let start = Instant::now();
        for one in matches {
            let mut contenders = one.contenders.clone();
            if round % 2 == 1 {
                contenders.reverse();
            }
            contenders.into_iter().try_for_each(|contender| bench.run_contender(one, contender))?;
        }
        eprintln!("round {} took {:.0} s", round + 1, start.elapsed().as_secs_f64());
        if deadline.is_some_and(|deadline| Instant::now() + start.elapsed() > deadline) {
            break;
        }
    }
    Ok(bench.summaries)
}

struct Bench<'a> {
    options: &'a Options,
    files: &'a Files,
    summaries: Vec<Summary>,
    /// The loops, chunks and contenders whose output was compared with the expected output.
    verified: HashSet<(Loop, u64, Contender)>,
    deadline: Option<Instant>,
}

impl Bench<'_> {
    fn run_contender(&mut self, one: &Match, contender: Contender) -> io::Result<()> {
        let found = self.summaries.iter().position(|summary| summary.is_of(one, contender));
        let Some(place) = found.filter(|&place| self.summaries[place].problem.is_none()) else {
            return Ok(());
        };
        let outcome = if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            Outcome::Skipped("no time left".to_owned())
        } else {
            self.run_once(one, contender)?
        };
        self.summaries[place].record(outcome);
        Ok(())
    }

    fn run_once(&mut self, one: &Match, contender: Contender) -> io::Result<Outcome> {
        let job = self.job(one, contender)?;
        let trial = Trial {
            job: &job,
            command: trial::command(contender.is_numpy(), ARGUMENT)?,
            source: &job.source,
            cache: one.cache,
            touched_bytes: if one.work.adds_up() { job.data_bytes() } else { 2 * job.data_bytes() },
            memory_limit: None,
            time_limit: self.options.time_limit(),
        };
        let outcome = trial.run(self.files)?;
        if matches!(outcome, Outcome::Done(_)) && self.verified.insert((one.work, one.chunk_bytes, contender))
        {
            if let Err(error) = verify::verify(&job) {
                return Ok(Outcome::Failed(format!("wrong output: {error}")));
            }
        }
        Ok(outcome)
    }

    fn job(&self, one: &Match, contender: Contender) -> io::Result<Job> {
        let work = one.work;
        let rows = work.rows(self.options.size_bytes());
        let name = if work.adds_up() { "target.sum" } else { "target.npy" };
        Ok(Job {
            contender,
            work,
            source: self.source(work, rows)?,
            target: self.files.outputs().join(name),
            rows,
            columns: work.columns(),
            chunk_rows: (one.chunk_bytes / work.row_bytes()).max(1) as usize,
            keep_cached: one.cache == Cache::Warm,
            index: None,
        })
    }

    /// Returns the source of a loop. The first call makes it.
    fn source(&self, work: Loop, rows: usize) -> io::Result<PathBuf> {
        let (name, header) = match work {
            Loop::Unaligned => ("unaligned.bin", vec![0; plan::UNALIGNED_OFFSET as usize]),
            Loop::Fortran => ("fortran.npy", files::npy_header(rows, work.columns(), true)),
            Loop::Narrow => ("narrow.npy", files::npy_header(rows, work.columns(), false)),
            _ => ("rows.npy", files::npy_header(rows, work.columns(), false)),
        };
        let path = self.files.folder().join(name);
        if !path.exists() {
            files::write_source(&path, rows as u64 * work.row_bytes(), &header)?;
        }
        Ok(path)
    }
}
