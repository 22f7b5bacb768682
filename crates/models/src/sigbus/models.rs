//! Models of the fault guard: the gate between replacing and dropping pages, the table that the handler reads, and the
//! states of pages.

use super::pages::{CLAIMED, INTACT, ONE_REPLACEMENT, PageStates};
use super::table::{Slot, VACANT};
use super::{MappedRange, gate};
use crate::Model;
use crate::explore::{at_once, explore, explore_three_preemptions};
use crate::sync::atomic::Ordering;
use crate::sys::page_bytes;
use loom::cell::UnsafeCell;
use std::path::Path;
use std::sync::Arc;

pub(crate) const MODELS: &[Model] = &[
    ("fault gate: a handler and a holder", handler_and_holder),
    ("fault gate: two handlers and a holder", two_handlers_and_holder),
    ("fault table: a slot is used again, while a handler reads it", reused_slot),
    ("page states: three threads fault on one page at first", first_fault),
];

/// The pages of a mapping. Each cell says whether the page was replaced. loom fails the model if a thread replaces a
/// page while another thread drops pages.
struct Pages<const N: usize>([UnsafeCell<bool>; N]);

// SAFETY: loom itself reports a data race on the cells.
unsafe impl<const N: usize> Sync for Pages<N> {}

impl<const N: usize> Pages<N> {
    fn new() -> Arc<Self> {
        Arc::new(Self(std::array::from_fn(|_| UnsafeCell::new(false))))
    }

    /// Models a faulting access. The signal handler either replaces the page or only returns, so that the access is
    /// repeated. Returns whether the handler has replaced the page.
    fn fault(&self, page: usize) -> bool {
        let mut replaced = false;
        let answered = gate::run_if_open(|| {
            // SAFETY: loom reports a data race, so no other access to the cell is in progress.
            self.0[page].with_mut(|page| unsafe { *page = true });
            replaced = true;
            true
        });
        assert!(answered, "the access can be tried again");
        replaced
    }

    /// Drops pages, as `release_pages` in the library's `map/evict.rs` does: closes the gate, and then reads which pages
    /// were replaced.
    fn drop_pages(&self) {
        let _no_replacement = gate::close_gate();
        // SAFETY: loom reports a data race, so no store to the cells is in progress.
        self.0.iter().for_each(|page| _ = page.with(|page| unsafe { *page }));
    }
}

/// Creates the gate, which has its own memory. Its creation is not part of the models.
fn make_gate() {
    drop(gate::close_gate());
}

fn handler_and_holder() -> usize {
    explore(|| {
        make_gate();
        let pages = Pages::<1>::new();
        let one = Arc::clone(&pages);
        at_once!(move || _ = one.fault(0); || pages.drop_pages());
        assert!(pages.fault(0), "the access succeeds when no hold is left");
    })
}

fn two_handlers_and_holder() -> usize {
    explore_three_preemptions(|| {
        make_gate();
        let pages = Pages::<2>::new();
        let (one, other) = (Arc::clone(&pages), Arc::clone(&pages));
        at_once!(move || _ = one.fault(0), move || _ = other.fault(1); || pages.drop_pages());
        assert!(pages.fault(0), "the access succeeds when no hold is left");
    })
}

static SLOT: Slot = Slot::new();

/// Returns one of the two registrations that use the slot one after the other. The first has two pages, the second has
/// three.
fn registration(serial: usize) -> MappedRange {
    MappedRange {
        start: serial * page_bytes(),
        len: (serial + 1) * page_bytes(),
        file_offset: (8 * serial * page_bytes()) as u64,
        writable: true,
        path: Arc::from(Path::new("/model")),
    }
}

/// Looks up an address that lies in both registrations.
fn look_up() {
    if let Some(found) = SLOT.find(2 * page_bytes()) {
        let serial = found.serial;
        assert!([1, 2].contains(&serial), "the serial number of a registration");
        assert_eq!(found.page_count(), serial + 1, "the length is that of registration {serial}");
        assert_eq!(found.page_of(2 * page_bytes()), 2 - serial, "the start is that of registration {serial}");
        assert_eq!(found.file_page(0), 8 * serial, "the offset is that of registration {serial}");
    }
}

/// This model has one handler only. `find` only loads, so two handlers cannot affect each other.
fn reused_slot() -> usize {
    explore(|| {
        SLOT.publish(1, &registration(1));
        at_once!(look_up; || {
            SLOT.retire();
            SLOT.publish(2, &registration(2));
        });
        assert_eq!(SLOT.serial(), 2);
    })
}

static STATES: PageStates = PageStates::none();

/// Claims a page, as `replace_once` in the library's `sigbus/handler.rs` does: changes the state of the page from
/// INTACT to CLAIMED, replaces the page, and counts the replacement.
fn replace_once(page: &UnsafeCell<usize>) {
    let state = STATES.get(0, 1).expect("memory for one byte");
    let seen = state.load(Ordering::Acquire);
    if seen != INTACT {
        return;
    }
    if state.compare_exchange(seen, seen | CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_err() {
        return;
    }
    // SAFETY: loom reports a data race, so no other access to the cell is in progress.
    page.with_mut(|times| unsafe { *times += 1 });
    state.store(seen.wrapping_add(ONE_REPLACEMENT), Ordering::Release);
}

struct Replaced(UnsafeCell<usize>);

// SAFETY: loom itself reports a data race on the cell.
unsafe impl Sync for Replaced {}

fn first_fault() -> usize {
    explore_three_preemptions(|| {
        let page = Arc::new(Replaced(UnsafeCell::new(0)));
        let fault = || {
            let page = Arc::clone(&page);
            move || replace_once(&page.0)
        };
        at_once!(fault(), fault(); fault());
        // SAFETY: the other threads have ended.
        page.0.with(|times| assert_eq!(unsafe { *times }, 1, "the page is replaced once"));
        STATES.release(1);
    })
}
