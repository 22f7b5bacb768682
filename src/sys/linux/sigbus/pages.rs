//! The states of the pages of a mapping: one byte for each page. A mapping gets this table at its first fault.
#![allow(unsafe_code)]

use crate::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::ptr;

/// The state of a page. The lowest bit is set while a thread is replacing the page. The other bits count how often the
/// page was replaced.
pub(super) type PageState = AtomicU8;

/// The state of a page that was never replaced.
pub(super) const INTACT: u8 = 0;
/// The bit that is set while a thread is replacing the page.
pub(super) const CLAIMED: u8 = 1;
/// The amount that is added to the state for each replacement. The count wraps around.
pub(super) const ONE_REPLACEMENT: u8 = 2;

/// One state byte for each page of a mapping. The bytes are allocated at the mapping's first fault.
///
/// Invariant: the pointer is null, or points to zero-initialised anonymous memory with one byte for each page of the
/// mapping. [`release`](Self::release) unmaps that memory. Only the mapping's owner calls `release`, when no thread can
/// fault on the mapping any more.
pub(super) struct PageStates(AtomicPtr<PageState>);

impl PageStates {
    pub(super) const fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Returns the state of one page, or `None` if there is no memory for the states. Async-signal-safe: it uses only
    /// atomics, `mmap`, `madvise` and `munmap`.
    pub(super) fn get(&self, page: usize, page_count: usize) -> Option<&PageState> {
        debug_assert!(page < page_count, "a page of the mapping");
        let mut states = self.0.load(Ordering::Acquire);
        if states.is_null() {
            states = self.make(page_count)?;
        }
        // SAFETY: `states` points to `page_count` bytes (the invariant), and `page` is less than `page_count`.
        let state = unsafe { states.add(page) };
        // SAFETY: the byte is initialised (to zero) and is accessed only as an atomic. The byte stays mapped as long as
        // the mapping is watched, and the watch outlives this borrow of the mapping's slot.
        Some(unsafe { &*state })
    }

    /// Maps memory for the states. If another thread has mapped memory meanwhile, returns the memory of that thread.
    fn make(&self, page_count: usize) -> Option<*mut PageState> {
        let made = map_zeroed(page_count)?.cast::<PageState>();
        match self.0.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(made),
            Err(theirs) => {
                unmap(made, page_count);
                Some(theirs)
            }
        }
    }

    /// Unmaps the states. The caller guarantees that no thread faults on the mapping any more.
    pub(super) fn release(&self, page_count: usize) {
        let states = self.0.swap(ptr::null_mut(), Ordering::AcqRel);
        if !states.is_null() {
            unmap(states, page_count);
        }
    }
}

/// Maps anonymous memory that contains zeros, and that the kernel zeroes in a child of `fork`: what a thread has stored in
/// it concerns a thread that the child does not have. Async-signal-safe.
pub(super) fn map_zeroed(len: usize) -> Option<*mut libc::c_void> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address that the kernel chooses replaces no other mapping.
    let made = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
    if made == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: the range is the new mapping. Before Linux 4.14, `madvise` rejects this advice with an error, and nothing
    // changes.
    unsafe { libc::madvise(made, len, libc::MADV_WIPEONFORK) };
    Some(made)
}

/// Unmaps states that no thread uses.
fn unmap(states: *mut PageState, page_count: usize) {
    // SAFETY: `make` mapped the range with this length, and no reference into it exists: either no other thread has
    // ever seen the memory, or no thread uses the mapping any more.
    let result = unsafe { libc::munmap(states.cast(), page_count) };
    debug_assert_eq!(result, 0, "the range was mapped by us");
}
