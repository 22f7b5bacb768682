//! Either pages are being replaced, or they are being dropped: never both.
//!
//! Dropping the pages of a shared mapping loses nothing, for they are the file's. A page of zeros that took the place of
//! one is not: what was stored in it would be gone. Whoever drops pages first holds the gate, then asks whether any page was
//! replaced. The handler, which may not wait, goes back to the access, which faults again until the gate is free.
//!
//! The two counts lie in memory that a child of `fork` finds zeroed: threads that were at the gate are not there.
#![allow(unsafe_code)]

use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::sync::hint;
use std::mem;
use std::ptr;

struct Gate {
    /// How many hold the gate.
    holds: AtomicUsize,
    /// How many handlers are inside.
    inside: AtomicUsize,
}

/// Null until it is first needed; then for ever the same. Used where there is no memory for another one.
static GATE: AtomicPtr<Gate> = AtomicPtr::new(ptr::null_mut());
static FALLBACK: Gate = Gate { holds: AtomicUsize::new(0), inside: AtomicUsize::new(0) };

/// The gate. Async-signal-safe: atomics, `mmap` and `madvise`.
fn gate() -> &'static Gate {
    let mut gate = GATE.load(Ordering::Acquire);
    if gate.is_null() {
        let made = make();
        let placed = GATE.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire);
        gate = placed.map_or_else(|theirs| theirs, |_| made);
    }
    // SAFETY: the pointer is to `FALLBACK` or to memory made below, both never freed, of nothing but integers, for which
    // zero is a value.
    unsafe { &*gate }
}

/// Memory for a gate that is zeroed in a child of `fork`. One that loses the race to be the gate stays, unused.
fn make() -> *mut Gate {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new anonymous mapping wherever the kernel has room replaces nothing.
    let made = unsafe { libc::mmap(ptr::null_mut(), mem::size_of::<Gate>(), protection, flags, -1, 0) };
    if made == libc::MAP_FAILED {
        return ptr::from_ref(&FALLBACK).cast_mut();
    }
    // SAFETY: the range is the mapping just made. Before Linux 4.14 the advice is an error, and without effect.
    unsafe { libc::madvise(made, mem::size_of::<Gate>(), libc::MADV_WIPEONFORK) };
    made.cast()
}

/// No page is replaced while this lives.
pub(crate) struct Hold(&'static Gate);

/// Waits for the handlers that are replacing pages, and keeps others from it. Their threads wait at their accesses: let it
/// go soon, and touch no mapped memory meanwhile.
pub(crate) fn hold() -> Hold {
    let gate = gate();
    gate.holds.fetch_add(1, Ordering::SeqCst);
    // In one order for all with the handler's own two steps: it sees the hold, or is seen here.
    while gate.inside.load(Ordering::SeqCst) != 0 {
        hint::spin_loop();
    }
    Hold(gate)
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Replaces a page, unless somebody holds the gate: then the access is to be tried again.
pub(super) fn pass(replace: impl FnOnce() -> bool) -> bool {
    let gate = gate();
    gate.inside.fetch_add(1, Ordering::SeqCst);
    let held = gate.holds.load(Ordering::SeqCst) != 0;
    let answered = held || replace();
    gate.inside.fetch_sub(1, Ordering::SeqCst);
    answered
}
