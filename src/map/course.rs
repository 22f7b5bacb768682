//! [`Courses`]: the orders in which loops visit an array, and where each of them will probably continue. This module
//! does no I/O.

use crate::sys::page_bytes;
use std::collections::VecDeque;
use std::ops::Range;

/// The maximum number of loops over one array that are followed at the same time, for example in several threads.
const MAX_COURSES: usize = 16;

/// If a loop skips at most this many bytes between two chunks, the mapping is prepared for the skipped bytes, too.
const NEAR_BYTES: u128 = 64 << 10;

/// The number of bytes after the last chunk for which the mapping is prepared if loops visit ascending chunks. Several
/// loops share this number. If the next chunk is larger, the mapping is prepared for the next chunk.
const AHEAD_BYTES: u64 = 16 << 20;

/// The minimum number of bytes after the last chunk for which the mapping is prepared if many loops visit ascending
/// chunks.
const MIN_AHEAD_BYTES: u64 = 4 << 20;

/// If a loop does not visit ascending chunks, at least the first and at most the second number of bytes are read ahead.
const READ_BYTES: Range<u64> = 2 << 20..16 << 20;

/// The order of the chunks counts as random if the count of surprises reaches this number. An unexpected chunk adds two
/// to the count, and an expected chunk subtracts one. So the order counts as random if fewer than two thirds of the
/// chunks are expected.
const RANDOM_SURPRISES: usize = 5;

/// A loop counts as active if one of this many most recent chunks belongs to the loop.
const RECENT_CHUNKS: u64 = 16;

/// The count of surprises never exceeds this number.
const MAX_SURPRISES: usize = 8;

/// Where a loop will probably continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The place where the loop will continue is not known, or is the same as before.
    Unchanged,
    /// The loop visits ascending chunks. The loop will visit the bytes `ahead`. The loop has finished the bytes
    /// `behind`, for which the mapping was prepared earlier.
    Ascending { ahead: Range<u64>, behind: Range<u64> },
    /// The loop will visit these bytes.
    Chunk(Range<u64>),
}

/// The order in which a loop visits chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Each chunk has higher offsets than the chunk before, and the two chunks touch or are near each other.
    Ascending,
    /// Each chunk has lower offsets than the chunk before, and the two chunks touch or are near each other.
    Descending,
    /// The distance between two successive chunks is always the same.
    Steps,
}

/// A loop over an array: its last chunk, and the distance from the second last chunk to the last chunk.
#[derive(Debug)]
struct Course {
    last: Range<u64>,
    step: i128,
    /// The order of the last two chunks. `None` if they follow no order.
    order: Option<Order>,
    /// The bytes for which the mapping was prepared, because the loop will probably visit them.
    prepared: Range<u64>,
    /// The number of the last chunk, counted over all loops.
    chunk_number: u64,
}

/// The loops over an array. Each loop evicts its finished chunks. The loop that was active last is at the end of the
/// list.
#[derive(Debug, Default)]
pub(super) struct Courses {
    courses: VecDeque<Course>,
    surprises: usize,
    /// The number of chunks of all loops.
    chunks: u64,
}

impl Courses {
    /// Returns whether the loops visit their chunks in random order.
    pub(super) fn are_random(&self) -> bool {
        self.surprises >= RANDOM_SURPRISES
    }

    /// Returns whether several loops take turns, for example in several threads. The kernel has one state of its
    /// read-ahead per open file. So for each loop, the kernel reads several MiB ahead, most of which are dropped before
    /// the loop needs them.
    pub(super) fn take_turns(&self) -> bool {
        self.loops() > 1
    }

    /// Starts to follow a loop that will visit ascending chunks from the first byte of `all` on.
    pub(super) fn start_ascending(&mut self, all: &Range<u64>) -> Next {
        let nothing = all.start..all.start;
        let order = Some(Order::Ascending);
        let chunk_number = self.chunks;
        let mut course = Course { last: nothing.clone(), step: 0, order, prepared: nothing, chunk_number };
        let next = course.ascend(all, AHEAD_BYTES);
        self.push(course);
        next
    }

    /// Returns the number of active loops whose chunks follow an order. A loop that has reached the end of the array is
    /// not active.
    pub(super) fn loops(&self) -> u64 {
        let is_recent = |course: &&Course| course.chunk_number + RECENT_CHUNKS > self.chunks;
        self.courses.iter().filter(is_recent).filter(|course| course.order.is_some()).count() as u64
    }

    /// Returns the ranges of bytes that the loops will probably visit next. The ranges are not sorted.
    pub(super) fn ahead(&self) -> Vec<Range<u64>> {
        self.courses.iter().map(|course| course.prepared.clone()).collect()
    }

    /// Returns the whole pages of `pages` that the loops will probably not visit next.
    pub(super) fn unexpected(&self, pages: &Range<u64>) -> Vec<Range<u64>> {
        let page = page_bytes() as u64;
        let mut expected = self.ahead();
        expected.sort_by_key(|range| range.start);
        let (mut gaps, mut from) = (Vec::new(), pages.start);
        for range in expected {
            gaps.push(from..(range.start - range.start % page));
            from = from.max(range.end.next_multiple_of(page));
        }
        gaps.push(from..pages.end);
        gaps.retain(|gap| !gap.is_empty());
        gaps
    }

    /// Records that a loop has finished a chunk of an array that has the bytes `all`. Returns whether the chunk was
    /// expected, and where the loop will probably continue.
    pub(super) fn advance(&mut self, chunk: &Range<u64>, all: &Range<u64>) -> (bool, Next) {
        let neighbour = self.courses.iter().rposition(|course| course.neighbour_order(chunk).is_some());
        let mut course = match neighbour.and_then(|at| self.courses.remove(at)) {
            Some(course) => course.moved_to(chunk),
            None => self.start_at(chunk),
        };
        self.chunks += 1;
        course.chunk_number = self.chunks;
        let is_expected = course.order.is_some();
        self.surprises = match is_expected {
            true => self.surprises.saturating_sub(1),
            false => MAX_SURPRISES.min(self.surprises + 2),
        };
        // Most loops that start with the first row visit ascending chunks.
        if !is_expected && chunk.start == all.start {
            course.order = Some(Order::Ascending);
        }
        let next = match course.order.filter(|_| !self.are_random() && !self.take_turns()) {
            Some(Order::Ascending) => {
                course.ascend(all, (AHEAD_BYTES / (self.loops() + 1)).max(MIN_AHEAD_BYTES))
            }
            Some(Order::Descending) => course.descend(all),
            Some(Order::Steps) => course.jump(all),
            None => {
                course.prepared = chunk.end..chunk.end;
                Next::Unchanged
            }
        };
        if course.last.end == all.end && course.order == Some(Order::Ascending) {
            course.order = None;
        }
        self.push(course);
        (is_expected, next)
    }

    /// Returns the end of the last chunk of the loop that was active last.
    pub(super) fn last_end(&self) -> Option<u64> {
        self.courses.back().map(|course| course.last.end)
    }

    /// Makes the last chunk of the loop that was active last longer.
    pub(super) fn extend_to(&mut self, end: u64) {
        if let Some(course) = self.courses.back_mut() {
            course.last.end = end;
        }
    }

    /// Starts to follow a loop whose chunk continues no known loop without a gap. The chunk still is expected if a
    /// known loop reaches it by repeating its last step.
    fn start_at(&mut self, chunk: &Range<u64>) -> Course {
        let prepared = chunk.end..chunk.end;
        let repeated =
            self.courses.iter_mut().rfind(|other| other.step != 0 && step(&other.last, chunk) == other.step);
        let (step, order) = match repeated {
            Some(other) => {
                // The loop has left the other course, but a loop of another thread may continue it.
                other.prepared = other.last.end..other.last.end;
                other.order = None;
                (other.step, Some(Order::Steps))
            }
            None => (self.courses.back().map_or(0, |latest| step(&latest.last, chunk)), None),
        };
        Course { last: chunk.clone(), step, order, prepared, chunk_number: self.chunks }
    }

    fn push(&mut self, course: Course) {
        if self.courses.len() == MAX_COURSES {
            self.courses.pop_front();
        }
        self.courses.push_back(course);
    }
}

impl Course {
    /// Returns the order of the loop if the loop continues with `chunk`, or `None` if `chunk` does not continue the
    /// loop. A chunk continues the loop if it touches the loop's last chunk, or if it is near and the loop repeats its
    /// last step.
    fn neighbour_order(&self, chunk: &Range<u64>) -> Option<Order> {
        let (last, step) = (&self.last, step(&self.last, chunk));
        let is_near = step == self.step && step.unsigned_abs() <= NEAR_BYTES;
        if chunk.end > last.end && (chunk.start == last.end || is_near) {
            Some(Order::Ascending)
        } else if chunk.start < last.start && (chunk.end == last.start || is_near) {
            Some(Order::Descending)
        } else {
            None
        }
    }

    /// Returns the state of the loop after the loop has visited `chunk`, which continues the loop.
    fn moved_to(self, chunk: &Range<u64>) -> Self {
        let (step, order) = (step(&self.last, chunk), self.neighbour_order(chunk));
        Self { last: chunk.clone(), step, order, ..self }
    }

    fn len(&self) -> u64 {
        self.last.end - self.last.start
    }

    /// Prepares for at least the next chunk, and for at least half of `ahead_bytes`.
    fn ascend(&mut self, all: &Range<u64>, ahead_bytes: u64) -> Next {
        let Range { start, end } = self.last;
        let needed = end.saturating_add(self.len().max(ahead_bytes / 2)).min(all.end);
        if self.prepared.end >= needed && self.prepared.start <= start {
            return Next::Unchanged;
        }
        let ahead_end = end.saturating_add(self.len().max(ahead_bytes)).min(all.end);
        let ahead = self.prepared.end.clamp(end, ahead_end)..ahead_end;
        let behind = self.prepared.start..start;
        self.prepared = start..ahead_end;
        Next::Ascending { ahead, behind }
    }

    fn descend(&mut self, all: &Range<u64>) -> Next {
        if self.len() > READ_BYTES.end {
            // The loop visits the bytes of its next chunk in ascending order.
            return self.jump(all);
        }
        let wanted = self.len().max(READ_BYTES.start);
        let end = self.prepared.start.min(self.last.start);
        let low = self.last.start.saturating_sub(2 * wanted).max(all.start);
        if end.saturating_sub(low) < wanted.min(end - all.start).max(1) {
            return Next::Unchanged;
        }
        self.prepared = low..self.last.start;
        Next::Chunk(low..end)
    }

    /// Returns the chunk that the loop visits next if the loop repeats its last step.
    fn jump(&mut self, all: &Range<u64>) -> Next {
        let len = self.len().min(READ_BYTES.end);
        match u64::try_from(i128::from(self.last.start) + self.step) {
            Ok(start) if all.contains(&start) => {
                self.prepared = start..start.saturating_add(len).min(all.end);
                Next::Chunk(self.prepared.clone())
            }
            _ => Next::Unchanged,
        }
    }
}

/// Returns the distance in bytes from the start of the chunk `from` to the start of the chunk `to`.
fn step(from: &Range<u64>, to: &Range<u64>) -> i128 {
    i128::from(to.start) - i128::from(from.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Range<u64> = 128..1 << 30;
    const MIB: u64 = 1 << 20;

    /// Passes the chunks to `advance`, one after the other, and returns the results.
    fn learn(courses: &mut Courses, chunks: impl IntoIterator<Item = Range<u64>>) -> Vec<(bool, Next)> {
        chunks.into_iter().map(|chunk| courses.advance(&chunk, &ALL)).collect()
    }

    #[test]
    fn an_ascending_loop_is_prepared_for_once_per_16_mib() {
        for len in [12, 4096, 100_000, MIB, 8 * MIB, 64 * MIB] {
            let (mut courses, mut prepared) = (Courses::default(), 0);
            let chunks =
                (0..).map(|k| 128 + k * len..128 + (k + 1) * len).take_while(|chunk| chunk.end < 300 * MIB);
            let chunks: Vec<_> = chunks.take(1_000_000).collect();
            let mut count = 0;
            for (at, chunk) in chunks.iter().enumerate() {
                if let (_, Next::Ascending { ahead, behind }) = courses.advance(chunk, &ALL) {
                    assert!(ahead.end >= chunk.end + AHEAD_BYTES.min(ALL.end) && ahead.start >= chunk.end);
                    assert!(behind.end <= chunk.start);
                    prepared = ahead.end;
                    count += 1;
                }
                assert!(at == 0 || prepared >= chunk.end + len.max(AHEAD_BYTES / 2));
            }
            let passed = chunks.last().unwrap().end;
            assert!(count <= 2 + passed / (AHEAD_BYTES / 2), "{len}: {count}");
        }
    }

    #[test]
    fn a_descending_loop_is_read_ahead_without_gaps() {
        for len in [12, 4096, 100_000, MIB, 8 * MIB] {
            let mut courses = Courses::default();
            let chunks = (0..100 * MIB / len).rev().map(|k| 128 + k * len..128 + (k + 1) * len).take(100_000);
            let mut low = None;
            for chunk in chunks {
                match courses.advance(&chunk, &ALL) {
                    (_, Next::Chunk(ahead)) => {
                        assert!(low.is_none_or(|low| ahead.end == low), "{len}");
                        low = Some(ahead.start);
                    }
                    (_, next) => assert_eq!(next, Next::Unchanged),
                }
                assert!(low.is_none_or(|low| low < chunk.start || low == ALL.start));
            }
        }
    }

    #[test]
    fn every_third_chunk_is_expected_from_the_third_one_on() {
        let chunk = |k: u64| 128 + 3 * k * MIB..128 + (3 * k + 1) * MIB;
        let next = learn(&mut Courses::default(), (0..5).map(chunk));
        assert!(!next[0].0 && next[1] == (false, Next::Unchanged));
        assert_eq!(next[2..], [3, 4, 5].map(|k| (true, Next::Chunk(chunk(k)))));
    }

    #[test]
    fn several_threads_are_followed_one_by_one() {
        let mut courses = Courses::default();
        let chunk = |thread: u64, k: u64| (thread * 100 + k) * MIB..(thread * 100 + k + 1) * MIB;
        for k in 0..40 {
            for thread in 0..8 {
                let (is_expected, _) = courses.advance(&chunk(thread, k), &(0..1 << 30));
                assert_eq!(is_expected, k > 0 || thread > 1);
            }
        }
        assert!(!courses.are_random() && courses.take_turns());
        assert_eq!(courses.unexpected(&(0..1 << 30)).len(), 9);
    }

    #[test]
    fn one_loop_after_another_is_not_several_loops() {
        let mut courses = Courses::default();
        for _ in 0..5 {
            for k in 0..100 {
                courses.advance(&(k * MIB..(k + 1) * MIB), &(0..100 * MIB));
                assert_eq!(courses.loops(), u64::from(k < 99), "chunk {k}");
            }
        }
    }

    #[test]
    fn chunks_without_an_order_are_random_until_an_order_is_seen() {
        let mut courses = Courses::default();
        let chunk = |k: u64| 128 + k * MIB..128 + (k + 1) * MIB;
        let next = learn(&mut courses, [500, 20, 800, 77, 300].map(chunk));
        assert!(next.iter().all(|(is_expected, _)| !is_expected) && courses.are_random());
        let ascending = learn(&mut courses, (301..306).map(chunk));
        assert!(ascending.iter().all(|(is_expected, _)| *is_expected));
        assert!(ascending.iter().any(|(_, next)| matches!(next, Next::Ascending { .. })));
        assert!(!courses.are_random());
    }
}
