//! [`Trail`]: the evicted bytes of a loop whose pages are still in the page cache, because they wait for write-back.
//! This module does no I/O.

use crate::geometry::{merged, to_pages};
use crate::io::split_at_pages;
use std::collections::VecDeque;
use std::ops::Range;

/// The size in bytes of a piece of the trail. A piece starts at a multiple of this size in the file, so that it
/// consists of whole folios. On the measured systems, folios have at most 2 MiB and start at a multiple of their size.
pub(super) const PIECE_BYTES: u64 = 2 << 20;

/// If this many pieces were added to the trail after a piece, the loop probably adds no more bytes to that piece, and
/// its write-back starts.
const GROWING_PIECES: usize = 4;

/// The maximum number of bytes that calls of [`Trail::extend`] add to the trail between two calls of [`Trail::push`].
const EXTENDED_BYTES: u64 = 64 << 10;

/// The evicted bytes of one aligned part of the file.
#[derive(Debug)]
pub(super) struct Piece {
    /// The number of the part of the file: the offset of the part, divided by [`PIECE_BYTES`].
    index: u64,
    /// The evicted bytes in ascending order. They neither overlap nor touch.
    ranges: Vec<Range<u64>>,
    /// The size of the pages that contain `ranges`.
    page_bytes: u64,
}

/// The evicted bytes of a loop whose pages are still in the page cache, divided into pieces of 2 MiB of the file.
/// Neighbouring chunks of a loop share pages and folios. A page can be dropped only when the loop has finished the
/// whole page. Therefore the pages of a piece are dropped together, and later than the chunk is evicted.
///
/// Invariants:
/// 1. Every piece has at least one range, and all ranges of a piece are in its part of the file.
/// 2. No two pieces have the same index.
/// 3. Every number in the list `growing` is the index of a piece of the trail.
/// 4. `page_bytes` is the sum of the `page_bytes` of all pieces.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// The pieces, in the order in which the loop first evicted bytes of them.
    pieces: VecDeque<Piece>,
    /// The numbers of the pieces whose write-back has not started, in the order of `pieces`.
    growing: VecDeque<u64>,
    page_bytes: u64,
    /// The end of the bytes that were pushed last.
    pushed_to: u64,
}

impl Piece {
    /// Returns the whole pages that contain evicted bytes. Each page appears once.
    pub(super) fn pages(&self, page: usize) -> impl Iterator<Item = Range<u64>> + '_ {
        merged(self.ranges.iter().map(move |range| to_pages(range.clone(), page)))
    }

    /// Returns the pages that consist of evicted bytes alone.
    pub(super) fn own_pages(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|range| split_at_pages(range).1).filter(|pages| !pages.is_empty())
    }

    /// Returns the evicted bytes that share a page with bytes that are not evicted.
    pub(super) fn shared_bytes(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let ends = self.ranges.iter().map(split_at_pages).flat_map(|(head, _, tail)| [head, tail]);
        ends.filter(|bytes| !bytes.is_empty())
    }

    /// Returns the offset in the file at which the piece ends.
    fn end(&self) -> u64 {
        (self.index + 1) * PIECE_BYTES
    }

    /// Returns whether the loop has evicted every byte of the piece that belongs to the range `all`.
    pub(super) fn is_complete(&self, all: &Range<u64>) -> bool {
        let start = (self.index * PIECE_BYTES).max(all.start);
        let end = self.end().min(all.end);
        matches!(self.ranges.as_slice(), [range] if range.start <= start && range.end >= end)
    }
}

impl Trail {
    /// Returns the total size in bytes of the evicted pages that are still in the page cache.
    pub(super) fn page_bytes(&self) -> u64 {
        self.page_bytes
    }

    /// Returns the end of the trail, and the offset up to which [`extend`](Self::extend) adds bytes: bytes that do not
    /// complete the piece, and move the end by at most 64 KiB since the last [`push`](Self::push).
    pub(super) fn room(&self) -> Option<Range<u64>> {
        let piece = self.pieces.back()?;
        let start = piece.ranges.last()?.end;
        Some(start..self.pushed_to.saturating_add(EXTENDED_BYTES).min(piece.end() - 1))
    }

    /// Adds bytes that directly follow the bytes that were added last. Returns `false` and adds nothing if the bytes
    /// start elsewhere, or exceed the [`room`](Self::room). This fast function is enough for most rows of a loop over
    /// narrow rows.
    pub(super) fn extend(&mut self, bytes: &Range<u64>, page: usize) -> bool {
        let page = page as u64;
        if self.room().is_none_or(|room| room.start != bytes.start || room.end < bytes.end) {
            return false;
        }
        let Some(piece) = self.pieces.back_mut() else { return false };
        let Some(last) = piece.ranges.last_mut() else { return false };
        let added = bytes.end.next_multiple_of(page) - last.end.next_multiple_of(page);
        last.end = bytes.end;
        piece.page_bytes += added;
        self.page_bytes += added;
        true
    }

    /// Adds evicted bytes.
    pub(super) fn push(&mut self, bytes: &Range<u64>, page: usize) {
        self.pushed_to = bytes.end;
        let mut start = bytes.start;
        while start < bytes.end {
            let index = start / PIECE_BYTES;
            let end = bytes.end.min((index + 1) * PIECE_BYTES);
            self.push_part(index, start..end, page);
            start = end;
        }
    }

    fn push_part(&mut self, index: u64, bytes: Range<u64>, page: usize) {
        // Most evicted bytes belong to the piece that was added last.
        let at = self.pieces.iter().rposition(|piece| piece.index == index).unwrap_or_else(|| {
            self.pieces.push_back(Piece { index, ranges: Vec::new(), page_bytes: 0 });
            self.growing.push_back(index);
            self.pieces.len() - 1
        });
        let piece = &mut self.pieces[at];
        insert_merged(&mut piece.ranges, bytes);
        let before = piece.page_bytes;
        piece.page_bytes = piece.pages(page).map(|pages| pages.end - pages.start).sum();
        self.page_bytes = self.page_bytes - before + piece.page_bytes;
    }

    /// Returns whether all of these bytes are on the trail.
    pub(super) fn contains(&self, bytes: &Range<u64>) -> bool {
        (bytes.start / PIECE_BYTES..bytes.end.div_ceil(PIECE_BYTES)).all(|index| {
            let start = (index * PIECE_BYTES).max(bytes.start);
            let end = ((index + 1) * PIECE_BYTES).min(bytes.end);
            self.piece(index).is_some_and(|piece| {
                piece.ranges.iter().any(|range| range.start <= start && range.end >= end)
            })
        })
    }

    /// Returns the next piece whose write-back should start. The piece is complete, or the loop will probably add no
    /// more bytes to it. Each piece is returned once. `all` is the range of the array in the file.
    pub(super) fn next_to_write(&mut self, all: &Range<u64>) -> Option<&Piece> {
        let at = match self.growing.len() > GROWING_PIECES {
            true => 0,
            false => {
                self.growing.iter().position(|&index| self.piece(index).is_none_or(|p| p.is_complete(all)))?
            }
        };
        let index = self.growing.remove(at)?;
        self.piece(index)
    }

    /// Returns the number of pieces.
    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Removes the oldest piece, if the pages on the trail exceed `limit_bytes`.
    pub(super) fn pop_beyond(&mut self, limit_bytes: u64) -> Option<Piece> {
        if self.page_bytes <= limit_bytes {
            return None;
        }
        let piece = self.pieces.pop_front()?;
        self.page_bytes -= piece.page_bytes;
        self.growing.retain(|&index| index != piece.index);
        Some(piece)
    }

    fn piece(&self, index: u64) -> Option<&Piece> {
        self.pieces.iter().rfind(|piece| piece.index == index)
    }
}

/// Adds a range to a list of ascending ranges that neither overlap nor touch.
fn insert_merged(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    let first = ranges.partition_point(|other| other.end < range.start);
    let end = ranges.partition_point(|other| other.start <= range.end);
    let joined = ranges[first..end]
        .iter()
        .fold(range, |joined, other| joined.start.min(other.start)..joined.end.max(other.end));
    ranges.splice(first..end, [joined]);
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "lists of ranges that happen to be one")]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const PAGE: usize = 4096;
    const P: u64 = PIECE_BYTES;

    fn all_pages(trail: &mut Trail) -> Vec<Range<u64>> {
        std::iter::from_fn(|| trail.pop_beyond(0))
            .flat_map(|piece| piece.pages(PAGE).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn neighbouring_chunks_share_a_piece_and_its_pages() {
        let mut trail = Trail::default();
        for row in 0..1000 {
            trail.push(&(128 + row * 12..140 + row * 12), PAGE);
        }
        assert_eq!(trail.page_bytes(), 3 * PAGE as u64);
        assert_eq!(all_pages(&mut trail), [0..3 * PAGE as u64]);
        assert_eq!(trail.page_bytes(), 0);
    }

    #[test]
    fn complete_pieces_are_written_back_first_and_once() {
        let (mut trail, all) = (Trail::default(), 100..10 * P);
        trail.push(&(100..3 * P + 5), PAGE);
        let written: Vec<_> =
            std::iter::from_fn(|| trail.next_to_write(&all).map(|piece| piece.index)).collect();
        assert_eq!(written, [0, 1, 2]);
        for index in 5..9 {
            trail.push(&(index * P..index * P + 1), PAGE);
        }
        assert_eq!(trail.next_to_write(&all).map(|piece| piece.index), Some(3));
        assert!(trail.next_to_write(&all).is_none());
    }

    #[test]
    fn the_oldest_piece_leaves_first() {
        let mut trail = Trail::default();
        for index in [7, 3, 5] {
            trail.push(&(index * P..(index + 1) * P), PAGE);
        }
        assert_eq!(trail.pop_beyond(2 * P).map(|piece| piece.index), Some(7));
        assert!(trail.pop_beyond(2 * P).is_none());
    }

    #[test]
    fn a_trail_holds_exactly_the_bytes_that_were_pushed() {
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for _ in 0..10 {
            let (mut trail, mut model) = (Trail::default(), HashSet::new());
            for _ in 0..next(40) {
                let start = P - 5000 + next(10_000);
                let range = start..start + 1 + next(3000);
                model.extend(range.clone());
                trail.push(&range, PAGE);
            }
            for _ in 0..40 {
                let start = P - 5000 + next(13_000);
                let range = start..start + 1 + next(500);
                assert_eq!(trail.contains(&range), range.clone().all(|byte| model.contains(&byte)));
            }
            let pages: HashSet<_> = model.iter().map(|byte| byte / PAGE as u64).collect();
            assert_eq!(trail.page_bytes(), (pages.len() * PAGE) as u64);
            let popped = all_pages(&mut trail);
            let found: HashSet<_> = popped.iter().cloned().flatten().map(|byte| byte / PAGE as u64).collect();
            assert_eq!(found, pages);
        }
    }
}
