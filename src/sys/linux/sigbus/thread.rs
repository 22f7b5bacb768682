//! The state that the handler reads and writes for each thread, and the scope of a guard.
//!
//! In a library that was loaded at run time, the first use of a thread-local may allocate memory. In the handler this
//! is safe: the handler uses the state only after it has found the faulting address among the watched mappings. So the
//! thread was interrupted at a load or store of an array element, not inside the allocator. The state has no
//! destructor, and contains only atomics.

use super::{FaultReport, watch};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering, compiler_fence};

struct ThreadState {
    /// The number of guards that the thread is in.
    guards: AtomicUsize,
    /// The first fault since the innermost guard began: the serial number of the registration (zero if there was no
    /// fault), and the page of the file.
    first_serial: AtomicUsize,
    first_file_page: AtomicUsize,
    /// The replaced page for which this thread has last retried an access: the serial number of the registration, and
    /// the page's address combined with the page's state.
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

/// Reads a value of this thread. Only this thread, and a handler that runs in this thread, write the value.
fn get(value: &AtomicUsize) -> usize {
    value.load(Ordering::Relaxed)
}

fn set(value: &AtomicUsize, to: usize) {
    value.store(to, Ordering::Relaxed);
}

/// Returns whether the thread is in a guard.
pub(super) fn is_guarded() -> bool {
    STATE.with(|state| get(&state.guards) > 0)
}

/// Records a fault of this thread, if this is the thread's first fault since the innermost guard began.
pub(super) fn record_fault(serial: usize, file_page: usize) {
    STATE.with(|state| {
        if get(&state.first_serial) == 0 {
            set(&state.first_file_page, file_page);
            set(&state.first_serial, serial);
        }
    });
}

/// Records that the thread retries an access to a replaced page in the state `page_state`. Returns whether the thread's
/// previous retry was for the same page in the same state.
///
/// `page_address` is a multiple of the page size, so its low bits can store the state.
pub(super) fn retries_again(serial: usize, page_address: usize, page_state: u8) -> bool {
    let page = page_address | usize::from(page_state);
    STATE.with(|state| {
        let again = get(&state.retried_serial) == serial && get(&state.retried_page) == page;
        set(&state.retried_serial, serial);
        set(&state.retried_page, page);
        again
    })
}

/// A guard of the current thread: while the scope exists, the handler handles the thread's faults on watched mappings.
/// Scopes nest.
#[derive(Debug)]
pub(crate) struct Scope {
    outer_first: (usize, usize),
    ended_before: usize,
    /// A scope must be dropped in the thread that entered it.
    not_send: PhantomData<*const ()>,
}

impl Scope {
    pub(crate) fn enter() -> Self {
        let ended_before = watch::ended_with_faults();
        let outer_first = STATE.with(|state| {
            let outer_first = (get(&state.first_serial), get(&state.first_file_page));
            set(&state.first_serial, 0);
            set(&state.guards, get(&state.guards) + 1);
            outer_first
        });
        // The compiler must not move a memory access of the guarded code before the beginning of the guard.
        compiler_fence(Ordering::SeqCst);
        Self { outer_first, ended_before, not_send: PhantomData }
    }

    /// Returns a fault that may have affected the code in this scope: the first fault of this thread, or else a fault
    /// of any mapping that was watched at some time within the scope. The code in the scope can read replaced pages of
    /// such a mapping without causing a fault.
    pub(crate) fn report(&self) -> Option<FaultReport> {
        // The compiler must not move a memory access of the guarded code after this check.
        compiler_fence(Ordering::SeqCst);
        let (serial, file_page) = STATE.with(|state| (get(&state.first_serial), get(&state.first_file_page)));
        match serial {
            0 => watch::any_fault(self.ended_before),
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
