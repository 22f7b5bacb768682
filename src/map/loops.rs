//! [`Loops`]: the state of the loops that evict rows of a mapping.

use super::bands::Bands;
use super::course::Courses;
use super::trail::Trail;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, lock, try_lock};
use crate::sys::page_bytes;
use std::ops::{Deref, DerefMut, Range};

/// The state of the loops that evict the finished rows of a mapping.
#[derive(Debug)]
pub(super) struct Loops {
    process: u32,
    state: Mutex<State>,
    /// The end of the most recent chunk, or [`NONE`] if that chunk cannot be extended. Only a thread that holds the lock
    /// stores here; other threads replace a value by a larger one ([`extend`](Self::extend)).
    end: AtomicU64,
    /// The maximum value of `end`.
    limit: AtomicU64,
}

/// No end of a chunk: no file is so long.
const NONE: u64 = u64::MAX;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) trail: Trail,
    pub(super) courses: Courses,
    pub(super) bands: Bands,
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

/// The state of the loops, locked. While it is unlocked, [`Loops::extend`] can make the most recent chunk longer.
pub(super) struct Locked<'a> {
    state: MutexGuard<'a, State>,
    loops: &'a Loops,
}

impl State {
    /// Makes the most recent chunk longer: the loop has also evicted the bytes up to this offset.
    fn extend_to(&mut self, end: u64) {
        let Some(start) = self.courses.last_end().filter(|&start| start < end) else { return };
        if !self.trail.extend(&(start..end), page_bytes()) {
            self.trail.push(&(start..end), page_bytes());
        }
        self.courses.extend_to(end);
        self.unchecked_bytes += end - start;
    }

    /// Returns the end of the most recent chunk, and the offset up to which [`extend_to`](Self::extend_to) is fast.
    /// Returns `None` if the chunk is not at the end of the trail.
    fn room(&self) -> Option<Range<u64>> {
        let room = self.trail.room()?;
        (self.courses.last_end() == Some(room.start)).then_some(room)
    }
}

impl Loops {
    pub(super) fn new() -> Self {
        let process = std::process::id();
        Self { process, state: Mutex::default(), end: AtomicU64::new(NONE), limit: AtomicU64::new(0) }
    }

    /// Makes the most recent chunk of a loop longer by `bytes`, without locking the state. Returns `false` and changes
    /// nothing if `bytes` do not directly follow that chunk, or if more has to be done for them.
    #[inline]
    pub(super) fn extend(&self, bytes: &Range<u64>) -> bool {
        // If another thread changes the limit meanwhile, `bytes` may exceed the new limit. `State::extend_to` then
        // takes longer.
        bytes.end <= self.limit.load(Ordering::Relaxed)
            && self.end.compare_exchange(bytes.start, bytes.end, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Locks the state. Returns `None` in a child of `fork` if a thread of the parent held the lock at the fork.
    pub(super) fn state(&self) -> Option<Locked<'_>> {
        let is_child = || self.process != std::process::id();
        let state = try_lock(&self.state).or_else(|| (!is_child()).then(|| lock(&self.state)))?;
        let mut locked = Locked { state, loops: self };
        match self.end.swap(NONE, Ordering::Relaxed) {
            NONE => {}
            end => locked.extend_to(end),
        }
        Some(locked)
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some(room) = self.room() {
            self.loops.limit.store(room.end, Ordering::Relaxed);
            self.loops.end.store(room.start, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Evicts bytes as `evict_behind` does. Returns whether the bytes were expected, and whether that was fast.
    fn evict(loops: &Loops, bytes: &Range<u64>, all: &Range<u64>) -> (bool, bool) {
        if loops.extend(bytes) {
            return (true, true);
        }
        let mut state = loops.state().unwrap();
        let (is_expected, _) = state.courses.advance(bytes, all);
        state.trail.push(bytes, page_bytes());
        (is_expected, false)
    }

    #[test]
    fn every_narrow_row_of_a_loop_is_expected_after_the_first() {
        let (loops, all) = (Loops::new(), 128..128 + 12 * 400_000);
        let mut slow = 0;
        for row in 0..400_000 {
            let (is_expected, is_fast) = evict(&loops, &(128 + row * 12..140 + row * 12), &all);
            assert_eq!(is_expected, row > 0, "row {row}");
            slow += usize::from(!is_fast);
        }
        assert!(slow < 100, "{slow} rows");
        let state = loops.state().unwrap();
        assert!(!state.courses.are_random());
        assert!(state.trail.contains(&all) && state.unchecked_bytes > 4_700_000);
    }

    #[test]
    fn two_interleaved_loops_over_narrow_rows_are_both_expected() {
        let (loops, all) = (Loops::new(), 0..1 << 30);
        for row in 0..50_000 {
            for start in [0, 500 << 20] {
                let (is_expected, _) = evict(&loops, &(start + row * 12..start + 12 + row * 12), &all);
                assert_eq!(is_expected, row > 0, "row {row}");
            }
        }
    }

    #[test]
    fn threads_that_evict_neighbouring_rows_lose_no_row() {
        let (loops, all) = (Loops::new(), 0..1 << 20);
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let row = next.fetch_add(1, Ordering::Relaxed);
                        if row >= (1 << 20) / 64 {
                            break;
                        }
                        evict(&loops, &(row * 64..row * 64 + 64), &all);
                    }
                });
            }
        });
        assert!(loops.state().unwrap().trail.contains(&all));
    }
}
