//! What the handler knows of the thread it interrupts, and the scope of a guard.
//!
//! The handler looks at a thread's state only after it has found the address among the mappings that are watched: the
//! thread was then at a load or store of an array's element, and in no allocator. So where the state of a thread is
//! allocated at its first use (in a library that was loaded at run time) that is harmless in the handler, too.
//! The state has no destructor, and holds only atomics.

use super::{FaultReport, watch};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering, compiler_fence};

struct ThreadState {
    /// How many guards the thread is in.
    guards: AtomicUsize,
    /// The first fault since the innermost guard began: the registration's serial number (zero: none), the file's page.
    first_serial: AtomicUsize,
    first_file_page: AtomicUsize,
    /// The replaced page that this thread has gone back to last: the registration, the address with the page's state.
    retried_serial: AtomicUsize,
    retried_page: AtomicUsize,
}

thread_local! {
    static STATE: ThreadState = const {
        ThreadState {
            guards: AtomicUsize::new(0),
            first_serial: AtomicUsize::new(0),
            first_file_page: AtomicUsize::new(0),
            retried_serial: AtomicUsize::new(0),
            retried_page: AtomicUsize::new(0),
        }
    };
}

/// A value of this thread, which nobody else writes but a handler in the same thread.
fn get(value: &AtomicUsize) -> usize {
    value.load(Ordering::Relaxed)
}

fn set(value: &AtomicUsize, to: usize) {
    value.store(to, Ordering::Relaxed);
}

/// Whether the thread is in a guard.
pub(super) fn is_guarded() -> bool {
    STATE.with(|state| get(&state.guards) > 0)
}

/// Remembers a fault that the thread has met.
pub(super) fn meet(serial: usize, file_page: usize) {
    STATE.with(|state| {
        if get(&state.first_serial) == 0 {
            set(&state.first_file_page, file_page);
            set(&state.first_serial, serial);
        }
    });
}

/// Notes that the thread goes back to the access at a page that was replaced, and whose state is now this one; true if
/// it has just done so before. `page_address` is a multiple of the page size, which leaves room for the state.
pub(super) fn retries_again(serial: usize, page_address: usize, page_state: u8) -> bool {
    let page = page_address | usize::from(page_state);
    STATE.with(|state| {
        let again = get(&state.retried_serial) == serial && get(&state.retried_page) == page;
        set(&state.retried_serial, serial);
        set(&state.retried_page, page);
        again
    })
}

/// While it lives, faults on watched mappings are answered in this thread. Scopes nest.
#[derive(Debug)]
pub(crate) struct Scope {
    outer_first: (usize, usize),
    departures_before: usize,
    /// It belongs to its thread.
    not_send: PhantomData<*const ()>,
}

impl Scope {
    pub(crate) fn enter() -> Self {
        let departures_before = watch::departures();
        let outer_first = STATE.with(|state| {
            let outer_first = (get(&state.first_serial), get(&state.first_file_page));
            set(&state.first_serial, 0);
            set(&state.guards, get(&state.guards) + 1);
            outer_first
        });
        // No access of the guarded code moves up before the guard is on.
        compiler_fence(Ordering::SeqCst);
        Self { outer_first, departures_before, not_send: PhantomData }
    }

    /// A fault that the code in this scope may have seen: the first one of this thread; else one of any mapping that is
    /// there now, or was at some time within the scope, for its replaced pages could be read without another fault.
    pub(crate) fn report(&self) -> Option<FaultReport> {
        // No access of the guarded code moves down behind the question.
        compiler_fence(Ordering::SeqCst);
        let (serial, file_page) = STATE.with(|state| (get(&state.first_serial), get(&state.first_file_page)));
        match serial {
            0 => watch::any_fault(self.departures_before),
            serial => Some(watch::report_of(serial, file_page)),
        }
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        STATE.with(|state| {
            set(&state.guards, get(&state.guards) - 1);
            if self.outer_first.0 != 0 {
                set(&state.first_file_page, self.outer_first.1);
                set(&state.first_serial, self.outer_first.0);
            }
        });
    }
}
