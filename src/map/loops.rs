//! [`Loops`]: the state of the loops that evict rows of a mapping.

use super::course::Courses;
use super::trail::Trail;
use crate::sync::{Mutex, MutexGuard, lock, try_lock};
use crate::sys::page_bytes;
use std::ops::Range;

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
    /// The number of bytes that the kernel reads around a fault. `None` if this number was not needed yet.
    pub(super) read_around: Option<u64>,
}

impl State {
    /// Adds an evicted chunk to the trail if the chunk is small and directly follows the chunk that was evicted last.
    /// Otherwise returns `false` and changes nothing. `parts` are the contiguous parts of the chunk.
    pub(super) fn extend(&mut self, mut parts: impl Iterator<Item = Range<u64>>) -> bool {
        let (Some(bytes), None) = (parts.next(), parts.next()) else { return false };
        let is_added = self.courses.follows(&bytes) && self.trail.extend(&bytes, page_bytes());
        if is_added {
            self.courses.extend(&bytes);
            self.unchecked_bytes += bytes.end - bytes.start;
        }
        is_added
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_narrow_row_of_a_loop_is_expected_after_the_first() {
        let (mut state, all) = (State::default(), 128..128 + 12 * 400_000);
        let mut slow = 0;
        for row in 0..400_000 {
            let bytes = 128 + row * 12..140 + row * 12;
            if !state.extend(std::iter::once(bytes.clone())) {
                let (is_expected, _) = state.courses.advance(&bytes, &all);
                assert_eq!(is_expected, row > 0, "row {row}");
                state.trail.push(&bytes, page_bytes());
                slow += 1;
            }
        }
        assert!(!state.courses.are_random());
        assert!(slow < 100, "{slow} rows");
        assert!(state.trail.contains(&all) && state.unchecked_bytes > 4_700_000);
    }

    #[test]
    fn two_interleaved_loops_over_narrow_rows_are_both_expected() {
        let (mut state, all) = (State::default(), 0..1 << 30);
        for row in 0..50_000 {
            for start in [0, 500 << 20] {
                let bytes = start + row * 12..start + 12 + row * 12;
                if !state.extend(std::iter::once(bytes.clone())) {
                    let (is_expected, _) = state.courses.advance(&bytes, &all);
                    assert_eq!(is_expected, row > 0, "row {row}");
                    state.trail.push(&bytes, page_bytes());
                }
            }
        }
    }
}
