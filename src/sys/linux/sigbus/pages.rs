//! The state of each page of one mapping, from its first fault on.
#![allow(unsafe_code)]

use crate::sync::atomic::{AtomicPtr, AtomicU8, Ordering};
use std::ptr;

/// A page's state: the lowest bit says that a thread is replacing it now, the others count how often that was done.
pub(super) type PageState = AtomicU8;

/// The page was never replaced.
pub(super) const INTACT: u8 = 0;
/// A thread is replacing the page.
pub(super) const CLAIMED: u8 = 1;
/// Added for each time that the page was replaced; wraps around.
pub(super) const ONE_ANSWER: u8 = 2;

/// A byte for each page of a mapping, made when the first of them faults: a mapping that never faults has none.
///
/// Invariant: the pointer is null, or to as many zero-initialised bytes of anonymous memory as the mapping has pages.
/// They go with [`release`](Self::release), which only the mapping's owner calls, when nobody can fault on it any more.
pub(super) struct PageStates(AtomicPtr<PageState>);

impl PageStates {
    pub(super) const fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The state of one page; `None` if there is no memory for the states. Async-signal-safe: atomics and `mmap`.
    pub(super) fn get(&self, page: usize, page_count: usize) -> Option<&PageState> {
        debug_assert!(page < page_count, "a page of the mapping");
        let mut states = self.0.load(Ordering::Acquire);
        if states.is_null() {
            states = self.make(page_count)?;
        }
        // SAFETY: the invariant: `states` is to `page_count` bytes, which is more than `page`.
        let state = unsafe { states.add(page) };
        // SAFETY: the byte is initialised (zero at first), only ever used as an atomic, and stays for as long as the
        // mapping is watched, which is longer than this borrow of the mapping's own entry.
        Some(unsafe { &*state })
    }

    /// Makes the states, or takes those that another thread has made meanwhile.
    fn make(&self, page_count: usize) -> Option<*mut PageState> {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        // SAFETY: a new anonymous mapping wherever the kernel has room replaces nothing.
        let made = unsafe { libc::mmap(ptr::null_mut(), page_count, protection, flags, -1, 0) };
        if made == libc::MAP_FAILED {
            return None;
        }
        // A thread that is replacing a page is not there in a child of `fork`, where its claim would last for ever.
        // SAFETY: the range is the mapping just made. Before Linux 4.14 the advice is an error, and without effect.
        unsafe { libc::madvise(made, page_count, libc::MADV_WIPEONFORK) };
        let made = made.cast::<PageState>();
        match self.0.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Some(made),
            Err(theirs) => {
                unmap(made, page_count);
                Some(theirs)
            }
        }
    }

    /// Gives the memory back. The caller knows that no thread faults on the mapping any more.
    pub(super) fn release(&self, page_count: usize) {
        let states = self.0.swap(ptr::null_mut(), Ordering::AcqRel);
        if !states.is_null() {
            unmap(states, page_count);
        }
    }
}

/// Unmaps states that nobody looks at.
fn unmap(states: *mut PageState, page_count: usize) {
    // SAFETY: the range was mapped by `make` with this length, and no reference into it is left: it is either the copy
    // that lost the race and was never shown to anyone, or its mapping has gone.
    let result = unsafe { libc::munmap(states.cast(), page_count) };
    debug_assert_eq!(result, 0, "the range was mapped by us");
}
