//! A gate that keeps signal handlers from replacing pages while a thread drops pages.
//!
//! A page of a shared mapping can be dropped without loss, because the content is in the page cache of the file. A page
//! of zeros that replaced a faulted page is different: later stores to the page are nowhere else. Therefore a thread
//! that drops pages first closes the gate, and then checks whether any page was replaced. The handler must not wait.
//! While the gate is closed, the handler returns without replacing the page. The access then runs again, and faults
//! again until the gate is open.
//!
//! The two counters lie in memory that the kernel zeroes in a child of `fork`: the child does not have the threads that
//! were counted.
#![allow(unsafe_code)]

use super::pages::map_zeroed;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sync::hint;
use std::mem;
use std::ptr;

struct Gate {
    /// The number of threads that keep the gate closed.
    closed_by: AtomicUsize,
    /// The number of handlers that are replacing a page.
    inside: AtomicUsize,
}

/// The gate. The pointer is null before the first use of the gate, and then never changes again.
static GATE: AtomicPtr<Gate> = AtomicPtr::new(ptr::null_mut());
static FALLBACK: Gate = Gate { closed_by: AtomicUsize::new(0), inside: AtomicUsize::new(0) };

/// Returns the gate. Async-signal-safe: it uses only atomics, `mmap` and `madvise`.
fn gate() -> &'static Gate {
    let mut gate = GATE.load(Ordering::Acquire);
    if gate.is_null() {
        let made = make();
        let placed = GATE.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire);
        gate = placed.map_or_else(|theirs| theirs, |_| made);
    }
    // SAFETY: the pointer is to `FALLBACK` or to memory from `make`. Both are never freed, and contain only integers,
    // for which zero is a valid value.
    unsafe { &*gate }
}

/// Maps memory for a gate. If two threads map memory at once, the memory of one thread stays mapped and unused. Returns
/// `FALLBACK` if there is no memory.
fn make() -> *mut Gate {
    map_zeroed(mem::size_of::<Gate>()).map_or(ptr::from_ref(&FALLBACK).cast_mut(), |memory| memory.cast())
}

/// A closed gate. Until this value is dropped, the handler replaces no page.
pub(crate) struct ClosedGate(&'static Gate);

/// Closes the gate, and waits for the handlers that are replacing pages.
///
/// Threads that fault meanwhile retry their accesses until the gate is open. So drop the result soon, and access no
/// mapped memory before.
pub(crate) fn close_gate() -> ClosedGate {
    let gate = gate();
    gate.closed_by.fetch_add(1, Ordering::SeqCst);
    // The handler increments `inside` and then loads `closed_by`; this function does the reverse. All four operations
    // are sequentially consistent, so either the handler sees the closed gate, or this loop sees the handler.
    while gate.inside.load(Ordering::SeqCst) != 0 {
        hint::spin_loop();
    }
    ClosedGate(gate)
}

impl Drop for ClosedGate {
    fn drop(&mut self) {
        self.0.closed_by.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs `replace` and returns its result. If the gate is closed, does not run `replace` and returns `true`: the access
/// must be retried.
pub(super) fn run_if_open(replace: impl FnOnce() -> bool) -> bool {
    let gate = gate();
    gate.inside.fetch_add(1, Ordering::SeqCst);
    let is_closed = gate.closed_by.load(Ordering::SeqCst) != 0;
    let can_retry = is_closed || replace();
    gate.inside.fetch_sub(1, Ordering::SeqCst);
    can_retry
}
