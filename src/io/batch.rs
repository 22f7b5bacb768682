//! Reads many small parts of a file: sorted by offset, neighbours together, up to 128 requests at once.

use super::{MAX_READ_GAP_BYTES, Reader, grow};
use crate::error::Result;
use crate::geometry::to_pages;
use crate::sys::{self, AlignedBuf, Piece, ReadQueue, page_bytes};
use std::io;
use std::ops::Range;

/// The largest request of a batch, in bytes.
const PIECE_BYTES: u64 = 512 << 10;

/// The most bytes that the requests of one batch read together.
const BATCH_BYTES: usize = 2 << 20;

/// Up to this many runs for each piece, on average, are read one by one from the page cache.
const MAX_SEPARATE_RUNS: usize = 2;

/// The most requests in one batch: enough to keep a disk busy.
const BATCH_PIECES: usize = 128;

/// A run of bytes to read: where it lies in the file, and where it goes in the buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) offset: u64,
    pub(crate) at: usize,
    pub(crate) len: usize,
}

impl Run {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.len as u64
    }
}

/// Memory that a thread keeps from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    queue: ReadQueue,
    pages: Option<AlignedBuf>,
    pieces: Vec<Piece>,
    route: Route,
}

/// How the pieces of a batch are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Route {
    /// By direct I/O.
    Direct,
    /// From the page cache, which holds them.
    Resident,
    /// Through the page cache, after one request to read all of them ahead.
    #[default]
    Ahead,
}

/// Runs that have been read together, sorted by offset, and the parts of the file that were read for them.
#[derive(Debug)]
pub(crate) struct Batch<'b> {
    pub(crate) runs: &'b [Run],
    pieces: &'b [Piece],
}

impl Batch<'_> {
    /// The parts of the file that hold the runs.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Range<u64>> {
        self.pieces.iter().map(Piece::file_bytes)
    }

    /// The runs that a part of the file can overlap.
    pub(crate) fn runs_near(&self, part: &Range<u64>) -> impl Iterator<Item = &Run> {
        // No run is longer than a piece.
        let first = self.runs.partition_point(|run| run.offset + PIECE_BYTES <= part.start);
        let end = part.end;
        self.runs[first..].iter().take_while(move |run| run.offset < end)
    }
}

impl Reader {
    /// Reads runs, in any order, repeats allowed, to their places in the buffer. Calls `after_batch` after each batch.
    pub(crate) fn read_runs(
        &self,
        buffer: &mut [u8],
        runs: &mut Vec<Run>,
        batches: &mut Batches,
        after_batch: &mut dyn FnMut(&mut [u8], Batch<'_>) -> Result<()>,
    ) -> Result<()> {
        split_long(runs);
        runs.sort_unstable_by_key(|run| run.offset);
        let mut rest = &runs[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(self.lay_out_batch(rest, batches));
            rest = after;
            self.read_batch(buffer, batch, batches)?;
            after_batch(buffer, Batch { runs: batch, pieces: &batches.pieces })?;
        }
        Ok(())
    }

    /// Reads what was laid out.
    fn read_batch(&self, buffer: &mut [u8], batch: &[Run], batches: &mut Batches) -> Result<()> {
        if batches.route == Route::Direct {
            if let Some(counts) = self.read_pieces(batches)? {
                return self.scatter(buffer, batch, batches, &counts);
            }
        }
        self.read_batch_buffered(buffer, batch, batches)
    }

    /// Lays out as many runs as one batch takes, in pieces that are all read by the same route. Returns the number of runs.
    fn lay_out_batch(&self, runs: &[Run], batches: &mut Batches) -> usize {
        batches.pieces.clear();
        let (mut taken, mut filled) = (0, 0);
        while taken < runs.len() && batches.pieces.len() < BATCH_PIECES {
            let count = piece_runs(&runs[taken..], MAX_READ_GAP_BYTES as u64);
            let Some(hull) = hull(&runs[taken..taken + count]) else { break };
            let route = match self.direct().get() {
                _ if self.prefers_cache() && self.is_resident(&hull) => Route::Resident,
                Some(_) => Route::Direct,
                None => Route::Ahead,
            };
            let pages = to_pages(hull, page_bytes());
            let len = (pages.end - pages.start) as usize; // at most a piece
            if taken > 0 && (route != batches.route || filled + len > BATCH_BYTES) {
                break;
            }
            batches.route = route;
            batches.pieces.push(Piece { offset: pages.start, at: filled..filled + len });
            filled += len;
            taken += count;
        }
        taken
    }

    /// Asks the kernel to read the whole batch ahead, and copies the runs from the page cache: one by one, or, if they are small, out
    /// of the pieces that hold them.
    fn read_batch_buffered(&self, buffer: &mut [u8], runs: &[Run], batches: &mut Batches) -> Result<()> {
        if batches.route != Route::Resident {
            batches.pieces.iter().for_each(|piece| sys::read_ahead(self.file(), piece.file_bytes()));
        }
        if runs.len() <= MAX_SEPARATE_RUNS * batches.pieces.len() {
            runs.iter()
                .try_for_each(|run| self.read_exact(&mut buffer[run.at..run.at + run.len], run.offset))?;
        } else {
            let Batches { pages, pieces, .. } = batches;
            let pages = self.room_for(pages, pieces)?;
            let file = self.file();
            let read = |piece: &Piece| sys::read_up_to(file, &mut pages[piece.at.clone()], piece.offset);
            let counts = pieces.iter().map(read).collect::<io::Result<Vec<_>>>();
            let counts = counts.map_err(|error| self.failed(error))?;
            self.scatter(buffer, runs, batches, &counts)?;
        }
        if batches.route != Route::Resident {
            batches.pieces.iter().for_each(|piece| self.drop_read(&piece.file_bytes()));
        }
        Ok(())
    }

    /// Memory for all pieces of a batch.
    fn room_for<'b>(&self, pages: &'b mut Option<AlignedBuf>, pieces: &[Piece]) -> Result<&'b mut [u8]> {
        let len = pieces.last().map_or(0, |piece| piece.at.end).max(BATCH_BYTES);
        Ok(grow(pages, len)?.bytes_mut())
    }

    /// Reads the pieces of a batch by direct I/O. Returns `None` if the filesystem refuses it.
    fn read_pieces(&self, batches: &mut Batches) -> Result<Option<Vec<usize>>> {
        let Some(direct) = self.direct().get() else { return Ok(None) };
        let Batches { queue, pages, pieces, .. } = batches;
        let pages = self.room_for(pages, pieces)?;
        let counts = queue.read(direct, pages, pieces);
        self.direct().unless_refused(counts).map_err(|error| self.failed(error))
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
