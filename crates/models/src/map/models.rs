//! Models of closing a mapping while threads have leases on it, of two closes at the same time, and of syncs.

use super::Mapping;
use super::gate::Gate;
use crate::Model;
use crate::error::ErrorKind;
use crate::explore::{at_once, explore};
use crate::sys;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) const MODELS: &[Model] = &[
    ("close: by path, while two threads move blocks", close_under_leases),
    ("close: by path and by the owner, while a thread moves a block", both_ways_under_leases),
    ("close: two mappings by two threads, while a third holds leases on both", closes_under_two_leases),
    ("close: a mapping, while two threads hold leases on it and on another", crossed_leases),
    ("close: by path twice and by the owner, the disk works", every_way_works),
    ("close: by path twice and by the owner, the disk fails once", every_way_fails),
    ("sync: two at once, the disk fails once", two_failing_syncs),
    ("sync: three at once, the disk fails once", three_failing_syncs),
];

/// Stores a block into a mapping, unless the mapping is closed.
fn move_block(mapping: &Mapping, cell: usize) {
    if let Ok(_lease) = mapping.lease("move") {
        mapping.memory().store(cell);
    }
}

/// Checks that no thread accesses the mapping after a close has returned.
fn assert_still(mapping: &Mapping) {
    mapping.memory().read_all();
    let error = mapping.lease("move").expect_err("no lease is given after the close");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

fn close_under_leases() -> usize {
    explore(|| {
        let mapping = Mapping::new(false);
        let (one, other) = (Arc::clone(&mapping), Arc::clone(&mapping));
        at_once!(
            move || move_block(&one, 0),
            move || move_block(&other, 1);
            || {
                assert!(mapping.close_by_path().expect("the disk works"), "the mapping was open");
                assert_still(&mapping);
                assert_eq!(sys::locks_held(), 1, "the owner keeps the lock");
            }
        );
    })
}

fn both_ways_under_leases() -> usize {
    explore(|| {
        let mapping = Mapping::new(false);
        let (mover, closer) = (Arc::clone(&mapping), Arc::clone(&mapping));
        at_once!(
            move || move_block(&mover, 0),
            move || {
                closer.close_by_path().expect("the disk works");
                assert_still(&closer);
            };
            || {
                mapping.close_by_owner().expect("the disk works");
                assert_still(&mapping);
                assert_eq!(sys::locks_held(), 0);
            }
        );
    })
}

/// The gates of two mappings.
#[derive(Clone)]
struct Two(Arc<[Gate; 2]>);

impl Two {
    fn open() -> Self {
        Self(Arc::new([Gate::open(), Gate::open()]))
    }

    /// Takes a lease on one gate and then on the other gate, and gives both leases back.
    fn hold_both(&self, first: usize) {
        let gates = [&self.0[first], &self.0[1 - first]];
        let given = gates.map(Gate::lease);
        gates.iter().zip(given).filter(|(_, given)| *given).for_each(|(gate, _)| gate.give_back());
    }

    fn close(&self, gate: usize) {
        assert!(self.0[gate].close(), "only one thread closes it");
        assert!(!self.0[gate].lease(), "no lease is given after the close");
    }
}

fn closes_under_two_leases() -> usize {
    explore(|| {
        let gates = Two::open();
        let (one, other) = (gates.clone(), gates.clone());
        at_once!(move || one.close(0), move || other.close(1); || gates.hold_both(0));
    })
}

/// Two threads take leases on two mappings in opposite orders, while a third thread closes one mapping.
fn crossed_leases() -> usize {
    explore(|| {
        let gates = Two::open();
        let (one, other) = (gates.clone(), gates.clone());
        at_once!(move || one.hold_both(0), move || other.hold_both(1); || gates.close(0));
    })
}

/// Closes a mapping in three threads at the same time: twice by path, and once by its owner. Returns how many of the
/// closes have failed. Also checks that the mapping stays locked until the owner closes it.
fn close_every_way(mapping: &Arc<Mapping>) -> usize {
    let failures = Arc::new(AtomicUsize::new(0));
    let opened = Arc::new(AtomicUsize::new(0));
    let by_path = || {
        let (mapping, failures, opened) = (Arc::clone(mapping), Arc::clone(&failures), Arc::clone(&opened));
        move || match mapping.close_by_path() {
            Ok(was_open) => _ = opened.fetch_add(usize::from(was_open), Ordering::Relaxed),
            Err(_) => _ = failures.fetch_add(1, Ordering::Relaxed),
        }
    };
    at_once!(by_path(), by_path(); || {
        assert_eq!(sys::locks_held(), 1, "only the owner releases the lock");
        let result = mapping.close_by_owner();
        failures.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
        assert_eq!(sys::locks_held(), 0, "the owner releases the lock");
    });
    assert!(opened.load(Ordering::Relaxed) <= 1, "one close finds the mapping open");
    failures.load(Ordering::Relaxed)
}

fn every_way_works() -> usize {
    explore(|| {
        let mapping = Mapping::new(false);
        assert_eq!(close_every_way(&mapping), 0);
        let syncs = mapping.memory().syncs();
        assert!((1..=2).contains(&syncs), "one flush by the first close, and one by the owner, not {syncs}");
    })
}

fn every_way_fails() -> usize {
    explore(|| {
        let mapping = Mapping::new(true);
        assert_eq!(close_every_way(&mapping), 3, "every close reports that the flush has failed");
    })
}

/// Syncs a mapping while the disk fails to write one page. Linux reports the failure to only one of several syncs that
/// run at the same time.
fn fail_to_sync(mapping: &Mapping) {
    let result = mapping.synced(|| mapping.memory().sync(0..1));
    result.expect_err("no sync returns Ok if one that it overlaps, or an earlier one, has failed");
}

fn two_failing_syncs() -> usize {
    explore(|| {
        let mapping = Mapping::new(true);
        let other = Arc::clone(&mapping);
        at_once!(move || fail_to_sync(&other); || fail_to_sync(&mapping));
    })
}

fn three_failing_syncs() -> usize {
    explore(|| {
        let mapping = Mapping::new(true);
        let (one, other) = (Arc::clone(&mapping), Arc::clone(&mapping));
        at_once!(move || fail_to_sync(&one), move || fail_to_sync(&other); || fail_to_sync(&mapping));
    })
}
