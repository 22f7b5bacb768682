//! [`Loops`]: the state of the loops that evict rows of a mapping.

use super::course::Courses;
use super::trail::Trail;
use crate::sync::{Mutex, MutexGuard, lock, try_lock};

/// The state of the loops that evict the finished rows of a mapping.
#[derive(Debug)]
pub(super) struct Loops {
    process: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) trail: Trail,
    pub(super) courses: Courses,
    /// The maximum number of bytes that were in the page cache before the loop and are still there. `None` before the
    /// first chunk.
    pub(super) cached_before: Option<u64>,
    /// The number of bytes that were evicted since the pages in the page cache were last counted.
    pub(super) unchecked_bytes: u64,
    /// The end of the last piece of the trail that was dropped as a whole.
    pub(super) dropped_to: u64,
    /// Whether the crate has advised the kernel that accesses have a random order.
    pub(super) advised_random: bool,
}

impl Loops {
    pub(super) fn new() -> Self {
        Self { process: std::process::id(), state: Mutex::default() }
    }

    /// Locks the state. Returns `None` in a child of `fork` if a thread of the parent held the lock at the fork.
    pub(super) fn state(&self) -> Option<MutexGuard<'_, State>> {
        try_lock(&self.state).or_else(|| (self.process == std::process::id()).then(|| lock(&self.state)))
    }
}
