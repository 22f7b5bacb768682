//! [`Loops`]: what is known of the loops that evict rows of a mapping.

use super::course::Courses;
use super::trail::Trail;
use crate::sync::{Mutex, MutexGuard, lock, try_lock};

/// The loops that evict rows of a mapping behind them.
#[derive(Debug)]
pub(super) struct Loops {
    process: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) trail: Trail,
    pub(super) courses: Courses,
    /// How many bytes were in the page cache before the loop, and still are, at most. `None` before the first chunk.
    pub(super) cached_before: Option<u64>,
    /// How many bytes were evicted since the page cache was last checked.
    pub(super) unchecked_bytes: u64,
    /// The end of the piece that was last dropped as a whole.
    pub(super) dropped_to: u64,
    /// Whether the kernel was told that the order is random.
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
