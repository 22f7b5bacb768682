//! Reading many small parts of a file: sorted, neighbours together, and a batch at a time, all at once.

use super::Reader;
use crate::error::Result;
use crate::geometry::to_pages;
use crate::stream::layout::REACH_BYTES;
use crate::sys::{self, AlignedBuf, Piece, ReadQueue, page_bytes};
use std::io;
use std::ops::Range;

/// The most that is read by one request of a batch, in bytes.
const PIECE_BYTES: u64 = 512 << 10;

/// What the requests of one batch read together, in bytes.
const BATCH_BYTES: usize = 2 << 20;

/// How many runs of a piece, on average, are still read one by one from the page cache.
const MOST_RUNS_ALONE: usize = 2;

/// How many requests a batch has: enough to keep a disk busy.
const BATCH_PIECES: usize = 128;

/// A run of bytes to be read: from where in the file, to where in the buffer.
#[derive(Clone, Copy, Debug)]
pub(in crate::stream) struct Run {
    pub(in crate::stream) offset: u64,
    pub(in crate::stream) at: usize,
    pub(in crate::stream) len: usize,
}

impl Run {
    fn end(&self) -> u64 {
        self.offset + self.len as u64
    }
}

/// What reading many runs needs beside the buffer that they go to.
#[derive(Debug, Default)]
pub(in crate::stream) struct Batches {
    queue: ReadQueue,
    pages: Option<AlignedBuf>,
    pieces: Vec<Piece>,
    way: Way,
}

/// Which way the pieces of a batch go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    /// Past the page cache.
    Direct,
    /// They are in the page cache.
    Resident,
    /// Into the page cache, all at once, and from there.
    #[default]
    Ahead,
}

impl Reader {
    /// Reads runs, in any order, repeats allowed, to their places in the buffer.
    pub(in crate::stream) fn read_runs(
        &self,
        buffer: &mut [u8],
        runs: &mut Vec<Run>,
        batches: &mut Batches,
    ) -> Result<()> {
        self.mapping.check_usable("stream")?;
        split_long(runs);
        runs.sort_unstable_by_key(|run| run.offset);
        let warm = !self.always_direct && !self.is_cold;
        let mut rest = &runs[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(self.lay_out_batch(rest, warm, batches));
            rest = after;
            self.read_batch(buffer, batch, batches)?;
            self.take_changes(buffer, batch, batches)?;
        }
        self.check_after()
    }

    /// Reads what was laid out.
    fn read_batch(&self, buffer: &mut [u8], batch: &[Run], batches: &mut Batches) -> Result<()> {
        if batches.way == Way::Direct {
            if let Some(counts) = self.read_pieces(batches)? {
                return self.scatter(buffer, batch, batches, &counts);
            }
        }
        self.read_batch_buffered(buffer, batch, batches)
    }

    /// Puts what was changed in a private copy over what the file has.
    fn take_changes(&self, buffer: &mut [u8], batch: &[Run], batches: &Batches) -> Result<()> {
        for changed in batches.pieces.iter().flat_map(|piece| self.changed_parts(&piece.file_bytes())) {
            // Runs are sorted by where they start, and none is longer than a piece.
            let first = batch.partition_point(|run| run.offset + PIECE_BYTES <= changed.start);
            for run in batch[first..].iter().take_while(|run| run.offset < changed.end) {
                let (start, end) = (run.offset.max(changed.start), run.end().min(changed.end));
                if start < end {
                    let at = run.at + (start - run.offset) as usize;
                    self.copy_private(&mut buffer[at..at + (end - start) as usize], start)?;
                }
            }
        }
        Ok(())
    }

    /// Lays out as many runs as one batch takes, in pieces that all go the same way; returns how many runs.
    fn lay_out_batch(&self, runs: &[Run], warm: bool, batches: &mut Batches) -> usize {
        batches.pieces.clear();
        let (mut taken, mut filled) = (0, 0);
        while taken < runs.len() && batches.pieces.len() < BATCH_PIECES {
            let count = piece_runs(&runs[taken..], REACH_BYTES as u64);
            let Some(hull) = hull(&runs[taken..taken + count]) else { break };
            let way = match self.direct() {
                _ if warm && self.is_resident(&hull) => Way::Resident,
                Some(_) => Way::Direct,
                None => Way::Ahead,
            };
            let pages = to_pages(hull, page_bytes());
            let len = (pages.end - pages.start) as usize; // at most a piece
            if taken > 0 && (way != batches.way || filled + len > BATCH_BYTES) {
                break;
            }
            batches.way = way;
            batches.pieces.push(Piece { offset: pages.start, at: filled..filled + len });
            filled += len;
            taken += count;
        }
        taken
    }

    /// Lets the kernel read the whole batch at once, and takes the runs from the page cache: one by one, or, where they are
    /// small, out of the pieces that hold them.
    fn read_batch_buffered(&self, buffer: &mut [u8], runs: &[Run], batches: &mut Batches) -> Result<()> {
        if batches.way != Way::Resident {
            self.mapping.prefetch_ranges(batches.pieces.iter().map(Piece::file_bytes))?;
        }
        if runs.len() <= MOST_RUNS_ALONE * batches.pieces.len() {
            runs.iter()
                .try_for_each(|run| self.read_exact(&mut buffer[run.at..run.at + run.len], run.offset))?;
        } else {
            let Batches { pages, pieces, .. } = batches;
            let pages = self.room_for(pages, pieces)?;
            let file = self.mapping.file();
            let read = |piece: &Piece| sys::read_up_to(file, &mut pages[piece.at.clone()], piece.offset);
            let counts = pieces.iter().map(read).collect::<io::Result<Vec<_>>>();
            let counts = counts.map_err(|error| self.failed(error))?;
            self.scatter(buffer, runs, batches, &counts)?;
        }
        if batches.way != Way::Resident {
            batches.pieces.iter().for_each(|piece| self.drop_read(&piece.file_bytes()));
        }
        Ok(())
    }

    /// Memory for all pieces of a batch.
    fn room_for<'b>(&self, pages: &'b mut Option<AlignedBuf>, pieces: &[Piece]) -> Result<&'b mut [u8]> {
        let len = pieces.last().map_or(0, |piece| piece.at.end).max(BATCH_BYTES);
        Ok(AlignedBuf::grow(pages, len).map_err(|error| self.failed(error))?.bytes_mut())
    }

    /// Reads the batch's pieces past the cache; `None` if that is refused.
    fn read_pieces(&self, batches: &mut Batches) -> Result<Option<Vec<usize>>> {
        let Some(direct) = self.direct() else { return Ok(None) };
        let Batches { queue, pages, pieces, .. } = batches;
        let pages = self.room_for(pages, pieces)?;
        self.note_refusal(queue.read(direct, pages, pieces))
    }

    /// Copies the runs out of the pages that hold them.
    fn scatter(&self, buffer: &mut [u8], runs: &[Run], batches: &Batches, counts: &[usize]) -> Result<()> {
        let Some(pages) = &batches.pages else { return Ok(()) };
        let mut pieces = batches.pieces.iter().zip(counts).peekable();
        for run in runs {
            // Runs and pieces are both in ascending order, and each run lies in one piece.
            let holds = |piece: &Piece| run.end() <= piece.file_bytes().end;
            while pieces.peek().is_some_and(|(piece, _)| !holds(piece)) {
                pieces.next();
            }
            let Some(&(piece, &count)) = pieces.peek() else { return Err(self.shrunk()) };
            let first = (run.offset - piece.offset) as usize; // within the piece
            if first + run.len > count {
                return Err(self.shrunk());
            }
            let from = piece.at.start + first;
            buffer[run.at..run.at + run.len].copy_from_slice(&pages.bytes()[from..from + run.len]);
        }
        Ok(())
    }
}

/// From the first byte of sorted runs to the last.
fn hull(runs: &[Run]) -> Option<Range<u64>> {
    let end = runs.iter().map(Run::end).max()?;
    Some(runs.first()?.offset..end)
}

/// How many of the sorted runs, from the first on, one request reads: neighbours, with what lies between them.
fn piece_runs(runs: &[Run], reach_bytes: u64) -> usize {
    let Some(first) = runs.first() else { return 0 };
    let mut end = first.end();
    let page = page_bytes() as u64;
    let joins = |run: &&Run| {
        // What lies in the same page is read anyway.
        let near = run.offset <= end.next_multiple_of(page) + reach_bytes
            && run.end().max(end) - first.offset <= PIECE_BYTES;
        end = end.max(run.end());
        near
    };
    1 + runs[1..].iter().take_while(joins).count()
}

/// Splits runs that are longer than a request.
fn split_long(runs: &mut Vec<Run>) {
    let limit = PIECE_BYTES as usize;
    for index in 0..runs.len() {
        while runs[index].len > limit {
            let run = &mut runs[index];
            run.len -= limit;
            let tail = Run { offset: run.end(), at: run.at + run.len, len: limit };
            runs.push(tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offset: u64, len: usize) -> Run {
        Run { offset, at: 0, len }
    }

    #[test]
    fn neighbours_are_one_request() {
        assert_eq!(
            piece_runs(&[run(0, 12), run(12, 12), run(12, 12), run(10_000, 12), run(90_000, 12)], 16 << 10),
            4
        );
        assert_eq!(piece_runs(&[run(0, 300 << 10), run(300 << 10, 300 << 10)], 16 << 10), 1);
        assert_eq!(piece_runs(&[run(0, 400_000), run(10, 5), run(390_000, 20_000)], 16 << 10), 3);
        assert_eq!(piece_runs(&[], 16 << 10), 0);
    }

    #[test]
    fn long_runs_are_several_requests() {
        let mut runs = vec![run(5, 1_200_000)];
        split_long(&mut runs);
        runs.sort_unstable_by_key(|run| run.offset);
        assert_eq!(runs.iter().map(|run| run.len).sum::<usize>(), 1_200_000);
        assert!(runs.iter().all(|run| run.len <= PIECE_BYTES as usize));
        assert!(runs.windows(2).all(|pair| pair[0].end() == pair[1].offset));
        assert!(runs.iter().all(|run| run.at as u64 + 5 == run.offset));
    }
}
