//! Reads many small runs of bytes in batches. Runs are sorted by their offset, adjacent runs are joined to one request,
//! and a batch makes up to 128 requests at once. The code calls a request a piece.

use super::{MAX_READ_GAP_BYTES, Reader, grow};
use crate::error::Result;
use crate::geometry::to_pages;
use crate::sys::{self, AlignedBuf, Piece, ReadQueue, page_bytes};
use std::io;
use std::ops::Range;

/// The largest request of a batch, in bytes.
const PIECE_BYTES: u64 = 512 << 10;

/// The maximum number of bytes that the requests of one batch read together.
const BATCH_BYTES: usize = 2 << 20;

/// If each request of a batch contains at most this many runs of bytes on average, each run is read separately from the
/// page cache.
const MAX_SEPARATE_RUNS: usize = 2;

/// The maximum number of requests in one batch, which is enough to keep a disk busy.
const BATCH_PIECES: usize = 128;

/// A run of bytes to read: its offset in the file, and its offset in the buffer.
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

/// The memory that a thread reuses for each batch.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    queue: ReadQueue,
    pages: Option<AlignedBuf>,
    pieces: Vec<Piece>,
    route: Route,
}

/// The route by which the pieces of a batch are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Route {
    /// The requests of the batch are read by direct I/O.
    Direct,
    /// The requests of the batch are read from the page cache, because their pages are resident.
    Resident,
    /// The kernel is asked to read the pages of all requests ahead. Then the requests are read from the page cache.
    #[default]
    Ahead,
}

/// The runs of one batch, sorted by offset, and the parts of the file that were read for them.
#[derive(Debug)]
pub(crate) struct Batch<'b> {
    pub(crate) runs: &'b [Run],
    pieces: &'b [Piece],
}

impl Batch<'_> {
    /// Returns the parts of the file that contain the runs.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Range<u64>> {
        self.pieces.iter().map(Piece::file_bytes)
    }

    /// Returns the runs that can overlap with a part of the file.
    pub(crate) fn runs_near(&self, part: &Range<u64>) -> impl Iterator<Item = &Run> {
        // No run of bytes is longer than `PIECE_BYTES`.
        let first = self.runs.partition_point(|run| run.offset + PIECE_BYTES <= part.start);
        let end = part.end;
        self.runs[first..].iter().take_while(move |run| run.offset < end)
    }
}

impl Reader {
    /// Reads each run to its offset in the buffer. The runs can have any order, and may be repeated. Calls
    /// `after_batch` after each batch.
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

    /// Reads a batch whose pieces [`lay_out_batch`](Self::lay_out_batch) has chosen.
    fn read_batch(&self, buffer: &mut [u8], batch: &[Run], batches: &mut Batches) -> Result<()> {
        if batches.route == Route::Direct {
            if let Some(counts) = self.read_pieces(batches)? {
                return self.scatter(buffer, batch, batches, &counts);
            }
        }
        self.read_batch_buffered(buffer, batch, batches)
    }

    /// Assigns runs of bytes to requests, called pieces, until one batch is full. All requests of a batch are read by
    /// the same route. Returns the number of assigned runs.
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
            let len = (pages.end - pages.start) as usize; // at most the length of a piece
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

    /// Asks the kernel to read the whole batch ahead, and then copies the runs from the page cache. If a request
    /// contains many runs of bytes, the whole request is read, and the runs are copied from it. Otherwise each run is
    /// read separately.
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

    /// Returns memory for all pieces of a batch.
    fn room_for<'b>(&self, pages: &'b mut Option<AlignedBuf>, pieces: &[Piece]) -> Result<&'b mut [u8]> {
        let len = pieces.last().map_or(0, |piece| piece.at.end).max(BATCH_BYTES);
        Ok(grow(pages, len)?.bytes_mut())
    }

    /// Reads the pieces of a batch by direct I/O. Returns `None` if the filesystem refuses direct I/O.
    fn read_pieces(&self, batches: &mut Batches) -> Result<Option<Vec<usize>>> {
        let Some(direct) = self.direct().get() else { return Ok(None) };
        let Batches { queue, pages, pieces, .. } = batches;
        let pages = self.room_for(pages, pieces)?;
        let counts = queue.read(direct, pages, pieces);
        self.direct().unless_refused(counts).map_err(|error| self.failed(error))
    }

    /// Copies the runs from the pages that contain them.
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
            let first = (run.offset - piece.offset) as usize; // at most the length of a piece
            if first + run.len > count {
                return Err(self.shrunk());
            }
            let from = piece.at.start + first;
            buffer[run.at..run.at + run.len].copy_from_slice(&pages.bytes()[from..from + run.len]);
        }
        Ok(())
    }
}

/// Returns the range from the start of the first run of bytes to the highest end of a run. The runs are sorted by their
/// start.
fn hull(runs: &[Run]) -> Option<Range<u64>> {
    let end = runs.iter().map(Run::end).max()?;
    Some(runs.first()?.offset..end)
}

/// Returns how many of the sorted runs a single request reads, starting with the first run. The request also reads the
/// gaps between these runs.
fn piece_runs(runs: &[Run], reach_bytes: u64) -> usize {
    let Some(first) = runs.first() else { return 0 };
    let mut end = first.end();
    let page = page_bytes() as u64;
    let joins = |run: &&Run| {
        // Runs of bytes in the same page are always read together.
        let near = run.offset <= end.next_multiple_of(page) + reach_bytes
            && run.end().max(end) - first.offset <= PIECE_BYTES;
        end = end.max(run.end());
        near
    };
    1 + runs[1..].iter().take_while(joins).count()
}

/// Splits each run of bytes that is longer than the largest request.
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
    fn adjacent_runs_are_one_request() {
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
