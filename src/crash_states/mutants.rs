//! [`Mutants`]: records without one of their syncs, or with a sync that comes too late. Each must have an illegal state.

use super::Trial;
use super::judge::Judge;
use super::model::Model;
use super::table::Scenario;
use crate::sys::record::{Change, Event, Log, Scope};
use std::collections::BTreeSet;

/// The result of the mutants of one operation.
#[derive(Default)]
pub(super) struct Mutants {
    pub(super) killed: usize,
    /// Syncs that a later sync repeats before anything depends on them: only the mutant without both is killed.
    pub(super) repeated: Vec<String>,
    pub(super) survived: Vec<String>,
    /// The calls in the crate whose deletion was detected.
    pub(super) places: BTreeSet<String>,
}

/// Tries the mutants of a record: without one sync, or with this sync after the changes that follow it.
pub(super) fn try_mutants(scenario: &Scenario, log: &Log, judge: &mut Judge) -> Mutants {
    let mut mutants = Mutants::default();
    let mut is_killed = |events: Vec<Event>| {
        let mut trial = Trial::new(scenario, &Log { before: log.before.clone(), events });
        trial.corners(judge).and_then(|()| trial.random(judge, 1, 400)).is_err()
    };
    let mut model = Model::new(log.before.clone());
    for (at, event) in log.events.iter().enumerate() {
        let Event::Sync(scope, place) = event else {
            model.apply(event);
            continue;
        };
        let is_needed = model.has_pending(scope);
        model.apply(event);
        // In `sys/fs.rs`, a sync of a file only replaces `sync_file_range` for evictions, which promise nothing.
        if !is_needed || matches!(scope, Scope::File(..)) && place.file().ends_with("sys/fs.rs") {
            continue;
        }
        let place = format!("{}:{} ({})", place.file(), place.line(), kind(scope));
        let next = log.events[at + 1..].iter().position(|event| !matches!(event, Event::Change(_)));
        let next = next.map_or(log.events.len(), |distance| at + 1 + distance);
        if is_killed(without(&log.events, &[at])) {
            mutants.killed += 1;
            mutants.places.insert(place.clone());
        } else if is_killed(without(&log.events, &repeated_by(&log.events, at))) {
            mutants.repeated.push(place);
            continue;
        } else {
            mutants.survived.push(format!("{}: without {place}, event {at}", scenario.name));
        }
        // A file must be durable before it gets a name.
        let changes = &log.events[at + 1..next];
        let names = changes.iter().any(|event| matches!(event, Event::Change(Change::Names(_))));
        if matches!(scope, Scope::File(..)) && names {
            let mut later = without(&log.events, &[at]);
            later.insert(next - 1, event.clone());
            if is_killed(later) {
                mutants.killed += 1;
            } else {
                mutants.survived.push(format!("{}: {place} too late, event {at}", scenario.name));
            }
        }
    }
    mutants
}

/// Returns the events without those at these places.
fn without(events: &[Event], places: &[usize]) -> Vec<Event> {
    let kept = events.iter().enumerate().filter(|(at, _)| !places.contains(at));
    kept.map(|(_, event)| event.clone()).collect()
}

/// Returns the place of a sync, and the places of the syncs of the same file or directory that repeat it: those before a
/// name changes or a call is acknowledged.
fn repeated_by(events: &[Event], at: usize) -> Vec<usize> {
    let needs_it = |event: &Event| matches!(event, Event::Acknowledged | Event::Change(Change::Names(_)));
    let after = (at + 1..events.len()).take_while(|&place| !needs_it(&events[place]));
    let is_same = |event: &Event| match (event, &events[at]) {
        (Event::Sync(Scope::File(file, _), _), Event::Sync(Scope::File(other, _), _)) => file == other,
        (Event::Sync(scope, _), Event::Sync(other, _)) => scope == other,
        _ => false,
    };
    std::iter::once(at).chain(after.filter(|&place| is_same(&events[place]))).collect()
}

fn kind(scope: &Scope) -> &'static str {
    match scope {
        Scope::File(..) => "file",
        Scope::Directory(_) => "directory",
        Scope::Everything => "filesystem",
    }
}
