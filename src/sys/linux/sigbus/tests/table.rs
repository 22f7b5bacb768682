//! Tests of the table with many mappings, and while mappings are added and removed.

use super::super::table::{self, Slot};
use super::super::{MappedRange, Watch, watch};
use super::{Watched, assert_success, folder, in_child, page};
use crate::ErrorKind;
use crate::fault::guard;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

/// Watches addresses that are not mapped and that the test never accesses.
fn watch_nothing(start: usize, len: usize) -> Watch {
    let range =
        MappedRange { start, len, file_offset: 0, writable: true, path: Arc::from(Path::new("/nothing")) };
    // SAFETY: no thread accesses these addresses while they are watched, so the handler never maps a page there.
    unsafe { watch(&range) }
}

/// Returns an address above the highest one that a process can map.
fn nowhere(index: usize) -> usize {
    (1 << (usize::BITS - 2)) + page(2 * index)
}

#[test]
fn a_hundred_thousand_mappings() {
    const MAPPINGS: usize = 100_000;
    let child = || {
        let folder = folder();
        let started = Instant::now();
        let mut watches: Vec<_> = (0..MAPPINGS).map(|i| watch_nothing(nowhere(i), page(1))).collect();
        let per_watch = started.elapsed() / MAPPINGS as u32;
        let array = Watched::sparse(folder.path(), 1000).truncated();
        let last = Watched::sparse(folder.path(), 1000).truncated();

        let started = Instant::now();
        assert_eq!(guard(|| last.load(0)).unwrap_err().path(), Some(&*last.path));
        let first = started.elapsed();
        let started = Instant::now();
        assert!(guard(|| (1..500).for_each(|i| last.store(page(i), 1))).is_err());
        let next = started.elapsed() / 499;
        assert!(guard(|| (0..500).for_each(|i| array.store(page(i), 1))).is_err());
        let started = Instant::now();
        assert!(guard(|| (500..1000).for_each(|i| array.store(page(i), last.load(page(i))))).is_err());
        let in_turn = started.elapsed() / 1000;
        println!("among {MAPPINGS} mappings, to watch one: {per_watch:?}");
        println!("a fault: {first:?} the first, {next:?} next to it, {in_turn:?} in two mappings in turn");
        assert_eq!((array.watch.count(), last.watch.count()), (1000, 1000));

        for i in (0..MAPPINGS).step_by(997) {
            assert!(table::find(nowhere(i)).is_some_and(|found| found.page_of(nowhere(i) + 5) == 0));
            assert!(table::find(nowhere(i) + page(1)).is_none());
        }
        let started = Instant::now();
        watches.drain(..).for_each(drop);
        println!("{:?} to end a watch", started.elapsed() / MAPPINGS as u32);
        assert!((0..MAPPINGS).step_by(997).all(|i| table::find(nowhere(i)).is_none()));
        drop((array, last));
        assert!(guard(|| ()).is_ok());
    };
    let output = in_child("sys::linux::sigbus::tests::table::a_hundred_thousand_mappings", child);
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert_success(&output);
}

/// A lookup never finds an address that was not in any registration, although registrations in its slot begin and end.
#[test]
fn a_slot_is_read_consistently_or_not_at_all() {
    static SLOT: Slot = Slot::new();
    let range = |start, pages| MappedRange {
        start: nowhere(start),
        len: page(pages),
        file_offset: 0,
        writable: true,
        path: Arc::from(Path::new("/nothing")),
    };
    // The gap between the two ranges is in neither registration, but is between the start of `low` and the end of
    // `high`.
    let (low, high) = (range(0, 1), range(100, 500));
    let done = AtomicBool::new(false);
    let mut found_low = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            for serial in (1..2_000_000).step_by(2) {
                SLOT.publish(serial, &low);
                SLOT.retire();
                SLOT.publish(serial + 1, &high);
                SLOT.retire();
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            assert!(
                SLOT.find(nowhere(50)).is_none(),
                "the address is in neither range: the slot was read inconsistently"
            );
            if let Some(found) = SLOT.find(nowhere(0)) {
                assert_eq!((found.serial % 2, found.page_count()), (1, 1));
                found_low += 1;
            }
        }
    });
    assert!(found_low > 0, "the two threads ran at the same time");
}

#[test]
fn slots_are_reused_without_old_faults() {
    let child = || {
        let folder = folder();
        for round in 0..2000_usize {
            let array = Watched::sparse(folder.path(), 3).truncated();
            assert_eq!((array.watch.first_fault(), array.watch.count()), (None, 0));
            let error = guard(|| array.load(page(round % 3))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fault { offset: page(round % 3) as u64 });
            std::fs::remove_file(&array.path).unwrap();
        }
    };
    assert_success(&in_child("sys::linux::sigbus::tests::table::slots_are_reused_without_old_faults", child));
}

#[test]
fn a_fault_whose_path_was_forgotten_is_still_an_error() {
    let child = || {
        let folder = folder();
        let error = guard(|| {
            for _ in 0..65 {
                let array = Watched::sparse(folder.path(), 2).truncated();
                array.load(page(1));
                std::fs::remove_file(&array.path).unwrap();
            }
        })
        .unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Fault { offset: page(1) as u64 }, None));
    };
    assert_success(&in_child(
        "sys::linux::sigbus::tests::table::a_fault_whose_path_was_forgotten_is_still_an_error",
        child,
    ));
}
