//! Tests of every state of a disk after a power cut. `docs/crash-states.md` explains the model and lists the results.
//!
//! An operation runs once, and is recorded at the interface to the system. From the record, the [`Model`] generates the
//! states that a disk may have if the power is cut at any moment, and the [`Judge`] opens each state. A mutant is a
//! record without one of its syncs: to delete the sync from the code has no other effect, because a sync changes no
//! byte that a running program can see.

mod choice;
mod files;
mod judge;
mod model;
mod mutants;
mod readers;
#[cfg(all(feature = "serde", not(ndarray_mmap_portable)))]
mod reused;
mod streams;
mod table;

use self::choice::Choices;
use self::judge::Judge;
use self::model::Model;
use self::mutants::{Mutants, try_mutants};
use self::table::{Expected, Scenario};
use crate::sys::record::{self, Event, Log};
use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;

/// How many states of one moment are chosen at random in each round.
const BATCH: usize = 256;

/// If a moment has at most so many states, all of them are tried.
const EXHAUSTIVE: f64 = 20_000.0;

/// A record, the states of it that were tried, and the moments that may have more states.
struct Trial<'s> {
    scenario: &'s Scenario,
    /// The moments at which the power may be cut: the model, and the number of acknowledged calls.
    moments: Vec<(Model, usize)>,
    /// What is legal after each number of acknowledged calls.
    legal: Vec<Vec<Expected>>,
    seen: HashSet<(usize, u64)>,
    generated: usize,
}

impl<'s> Trial<'s> {
    /// Finds the moments: before each sync, and before and after each acknowledged call. The states of all other moments
    /// are among the states of these moments.
    fn new(scenario: &'s Scenario, log: &Log) -> Self {
        let (mut model, mut acknowledged, mut moments) = (Model::new(log.before.clone()), 0, Vec::new());
        let mut is_new = true;
        for event in &log.events {
            match event {
                Event::Change(_) => is_new = true,
                Event::Sync(..) | Event::Acknowledged => {
                    if std::mem::take(&mut is_new) {
                        moments.push((model.clone(), acknowledged));
                    }
                }
            }
            model.apply(event);
            if let Event::Acknowledged = event {
                acknowledged += 1;
                is_new = true;
            }
        }
        moments.push((model, acknowledged));
        let legal = (0..=acknowledged).map(scenario.legal).collect();
        Self { scenario, moments, legal, seen: HashSet::new(), generated: 0 }
    }

    /// Tries one state. Returns what is wrong with it.
    fn check(&mut self, judge: &mut Judge, moment: usize, choices: &mut Choices) -> Result<(), String> {
        let (model, acknowledged) = &self.moments[moment];
        let image = model.state(choices);
        self.generated += 1;
        if !self.seen.insert((*acknowledged, image.hash())) {
            return Ok(());
        }
        judge.check(self.scenario, &image, &self.legal[*acknowledged], *acknowledged).map_err(|error| {
            format!(
                "{}, moment {moment}, {acknowledged} acknowledged, {choices:?}: {error}",
                self.scenario.name
            )
        })
    }

    /// Tries the extreme states of every moment.
    fn corners(&mut self, judge: &mut Judge) -> Result<(), String> {
        (0..self.moments.len()).try_for_each(|moment| {
            Choices::corners(24).try_for_each(|mut choices| self.check(judge, moment, &mut choices))
        })
    }

    /// Tries all states of the moments that have few states, in which only the block of the header is torn.
    fn small_moments(&mut self, judge: &mut Judge, limit: f64) -> Result<(), String> {
        for moment in 0..self.moments.len() {
            let mut choices = Choices::first();
            let mut is_next = self.moments[moment].0.states() <= limit;
            while is_next {
                self.check(judge, moment, &mut choices)?;
                is_next = choices.advance();
            }
        }
        Ok(())
    }

    /// Tries random states of every moment. Every block may be torn.
    fn random(&mut self, judge: &mut Judge, seed: u64, count: usize) -> Result<(), String> {
        (0..self.moments.len()).try_for_each(|moment| {
            (0..count as u64).try_for_each(|number| {
                let mut state = seed ^ (moment as u64) << 48 ^ number << 24;
                choice::next(&mut state);
                self.check(judge, moment, &mut Choices::Random(state))
            })
        })
    }
}

/// Runs an operation and records it.
fn record(scenario: &Scenario) -> Log {
    let folder = tempfile::tempdir_in("/var/tmp").or_else(|_| tempfile::tempdir()).unwrap();
    (scenario.before)(folder.path()).unwrap();
    record::start(folder.path());
    let result = (scenario.run)(folder.path());
    let log = record::stop();
    result.unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
    log
}

/// The results of one operation, as a line of the table in `docs/crash-states.md`.
struct Line {
    text: String,
    states: usize,
    mutants: Mutants,
}

/// Tries at least `wanted` states of one operation, if there are so many, and its mutants.
fn try_operation(scenario: &Scenario, judge: &mut Judge, wanted: usize, seed: u64) -> Result<Line, String> {
    let log = record(scenario);
    let mut trial = Trial::new(scenario, &log);
    let moments = trial.moments.len();
    trial.corners(judge)?;
    trial.small_moments(judge, EXHAUSTIVE.min(wanted as f64))?;
    for round in 0.. {
        let before = trial.seen.len();
        trial.random(judge, seed.wrapping_add(round), BATCH)?;
        // A moment whose states are mostly equal has no more states to find.
        if trial.seen.len() >= wanted || trial.seen.len() < before + BATCH / 32 {
            break;
        }
    }
    let mutants = try_mutants(scenario, &log, judge);
    let syncs = log.events.iter().filter(|event| matches!(event, Event::Sync(..))).count();
    let (states, generated, killed) = (trial.seen.len(), trial.generated, mutants.killed);
    let (all, repeated) = (killed + mutants.survived.len(), mutants.repeated.len());
    let text = format!(
        "| {} | {moments} | {generated} | {states} | {syncs} | {killed} of {all} | {repeated} |",
        scenario.name
    );
    Ok(Line { text, states, mutants })
}

fn scenarios() -> Vec<Scenario> {
    let mut all = files::scenarios();
    all.extend(streams::scenarios());
    #[cfg(all(feature = "serde", not(ndarray_mmap_portable)))]
    all.extend(reused::scenarios());
    all
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Tries the states and the mutants of every operation, on two threads, and prints the table.
fn try_all(scenarios: &[Scenario], prepare: fn() -> bool) {
    let states = setting("NDARRAY_MMAP_CRASH_STATES", 20_000) as usize;
    let seed = setting("NDARRAY_MMAP_SEED", 13);
    let wanted = states.div_ceil(scenarios.len());
    let (queue, lines) = (Mutex::new(scenarios.iter().enumerate()), Mutex::new(Vec::new()));
    let loaded = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut judge = Judge::new();
                if !prepare() {
                    return println!("SKIPPED: no seccomp");
                }
                loop {
                    let Some((number, scenario)) = queue.lock().unwrap().next() else { break };
                    let line = try_operation(scenario, &mut judge, wanted, seed);
                    lines.lock().unwrap().push((number, line));
                }
                *loaded.lock().unwrap() += judge.loaded_by_numpy();
            });
        }
    });
    let mut lines = lines.into_inner().unwrap();
    lines.sort_by_key(|(number, _)| *number);
    println!(
        "| operation | moments | generated | distinct states opened | syncs | mutants killed | repeated syncs |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let (mut total, mut killed, mut wrong) = (0, 0, Vec::new());
    let (mut places, mut repeated) = (BTreeSet::new(), BTreeSet::new());
    for (_, line) in lines {
        match line {
            Err(violation) => wrong.push(violation),
            Ok(line) => {
                println!("{}", line.text);
                total += line.states;
                killed += line.mutants.killed;
                places.extend(line.mutants.places);
                repeated.extend(line.mutants.repeated);
                wrong.extend(line.mutants.survived);
            }
        }
    }
    let loaded = loaded.into_inner().unwrap();
    println!(
        "states {total}, loaded by numpy {loaded}, mutants killed {killed}, seed {seed}; deleted syncs: {places:?}"
    );
    wrong.extend(repeated.difference(&places).map(|place| format!("no operation needs {place}")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_state_after_a_power_cut_is_legal_and_every_sync_is_needed() {
    try_all(&scenarios(), || true);
}

/// Where the system cannot name a file that was created without a name, new files have temporary names.
#[test]
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
fn every_state_is_legal_where_new_files_have_temporary_names() {
    let mut scenarios = scenarios();
    scenarios.retain(|scenario| !scenario.name.contains("two names")); // the test cannot make the second name
    try_all(&scenarios, crate::sys::refused::refuse_links);
}
