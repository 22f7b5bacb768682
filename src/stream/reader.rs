//! Reading parts of a mapped file into buffers, past the mapping: a file that shrinks meanwhile is an error, no signal.

use super::layout::REACH_BYTES;
use super::probe::{self, Transfer};
use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::to_pages;
use crate::map::Mapping;
use crate::sys::{self, AlignedBuf, Piece, ReadQueue, page_bytes};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The most that is read by one request of a batch, in bytes.
const PIECE_BYTES: u64 = 512 << 10;

/// What the requests of one batch read together, in bytes.
const BATCH_BYTES: usize = 2 << 20;

/// How many runs of a piece, on average, are still read one by one from the page cache.
const MOST_RUNS_ALONE: usize = 2;

/// How many requests a batch has: enough to keep a disk busy.
const BATCH_PIECES: usize = 128;

/// A file that is read, and how.
#[derive(Debug)]
pub struct Reader {
    mapping: Arc<Mapping>,
    /// The array is a private copy, whose changes no file has: memory is what is read.
    private: bool,
    direct: Option<File>,
    /// A direct read was refused: none is tried any more.
    refused: AtomicBool,
    /// Resident or not, go past the cache.
    always_direct: bool,
    /// The file was not in the cache, so pages that buffered reads bring in are dropped again.
    drop_behind: bool,
}

/// A run of bytes to be read: from where in the file, to where in the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) offset: u64,
    pub(super) at: usize,
    pub(super) len: usize,
}

impl Run {
    fn end(&self) -> u64 {
        self.offset + self.len as u64
    }
}

/// What reading many runs needs beside the buffer that they go to.
#[derive(Debug, Default)]
pub(super) struct Batches {
    queue: Option<ReadQueue>,
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
    /// `bytes` is the part of the file that will be read.
    pub(super) fn new(mapping: Arc<Mapping>, bytes: &Range<u64>, transfer: Transfer) -> Self {
        let private = mapping.access() == AccessMode::CopyOnWrite;
        let direct = if private { None } else { probe::direct_handle(mapping.file(), false, transfer) };
        Self {
            private,
            direct,
            refused: AtomicBool::new(false),
            always_direct: transfer == Transfer::Direct,
            drop_behind: !mapping.is_in_memory() && !probe::is_warm(mapping.file(), bytes),
            mapping,
        }
    }

    pub(super) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Whether a part of the file is best taken from the page cache.
    pub(super) fn is_resident(&self, bytes: &Range<u64>) -> bool {
        if self.private || self.always_direct || self.reads_ahead() {
            return false;
        }
        self.mapping.is_in_memory() || probe::is_resident(self.mapping.file(), bytes)
    }

    /// Whether what is in the cache is there because of this reader, which drops it behind.
    fn reads_ahead(&self) -> bool {
        self.drop_behind && self.direct().is_none()
    }

    fn direct(&self) -> Option<&File> {
        self.direct.as_ref().filter(|_| !self.refused.load(Ordering::Relaxed))
    }

    /// Takes a refusal of a direct read to heart; any other error goes on.
    fn note_refusal<R>(&self, result: io::Result<R>) -> Result<Option<R>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if probe::refuses_direct(&error) => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// The error for a read that failed, or for a write straight from the mapped source.
    pub(super) fn failed(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.shrunk(),
            _ if error.raw_os_error() == Some(libc::EFAULT) => self.shrunk(),
            _ => Error::io("stream", "to read the source", error).at(self.mapping.path()),
        }
    }

    /// The error of a file that has become shorter than its array.
    pub(super) fn shrunk(&self) -> Error {
        let needed = self.mapping.file_bytes().end;
        let len = self.mapping.file().metadata().map_or(0, |metadata| metadata.len());
        let (expected, found) =
            (format!("at least {needed} bytes of source"), format!("{len} bytes, as the file was cut short"));
        Error::new(ErrorKind::LengthMismatch, "stream", expected, found).at(self.mapping.path())
    }

    /// An error if the file ends before this byte.
    pub(super) fn check_length(&self, end: u64) -> Result<()> {
        let metadata = self.mapping.file().metadata().map_err(|error| self.failed(error))?;
        if metadata.len() < end { Err(self.shrunk()) } else { Ok(()) }
    }

    /// Reads a part of the file to where it lies in its pages: byte `b` of the file is byte `b - start` of the buffer,
    /// where `start` is the start of the part's first page. Bytes of these pages beside the part are not to be relied on.
    pub(super) fn read_span(&self, buffer: &mut AlignedBuf, bytes: &Range<u64>) -> Result<()> {
        self.mapping.check_usable("stream")?;
        let pages = to_pages(bytes.clone(), page_bytes());
        let len = (pages.end - pages.start) as usize; // the buffer has room for it
        let lead = (bytes.start - pages.start) as usize;
        let wanted = lead + (bytes.end - bytes.start) as usize;
        let is_resident = self.is_resident(bytes);
        if let Some(direct) = self.direct().filter(|_| !is_resident) {
            let read = sys::read_up_to(direct, &mut buffer.bytes_mut()[..len], pages.start);
            if let Some(read) = self.note_refusal(read)? {
                return if read >= wanted { Ok(()) } else { Err(self.shrunk()) };
            }
        }
        self.read_exact(&mut buffer.bytes_mut()[lead..wanted], bytes.start)?;
        if !is_resident {
            self.drop_read(bytes);
        }
        Ok(())
    }

    /// Reads by way of the page cache; of a private copy, its memory.
    fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        match self.private {
            true => self.mapping.copy_private(offset, buffer),
            false => sys::fs::read_exact_at(self.mapping.file(), buffer, offset),
        }
        .map_err(|error| self.failed(error))
    }

    /// Reads what there is of a piece in the same way; how many bytes. Only those that the array has are to be relied on.
    fn read_piece(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        if !self.private {
            return sys::read_up_to(self.mapping.file(), buffer, offset).map_err(|error| self.failed(error));
        }
        let array = self.mapping.file_bytes();
        let (start, end) = (offset.max(array.start), (offset + buffer.len() as u64).min(array.end));
        self.read_exact(&mut buffer[(start - offset) as usize..(end - offset) as usize], start)?;
        Ok((end - offset) as usize)
    }

    /// Gives back pages that this reader has brought into the cache.
    fn drop_read(&self, bytes: &Range<u64>) {
        if self.drop_behind {
            self.mapping.drop_behind(bytes);
        }
    }

    /// Reads runs, in any order, repeats allowed, to their places in the buffer.
    pub(super) fn read_runs(
        &self,
        buffer: &mut [u8],
        runs: &mut Vec<Run>,
        batches: &mut Batches,
    ) -> Result<()> {
        self.mapping.check_usable("stream")?;
        split_long(runs);
        runs.sort_unstable_by_key(|run| run.offset);
        let Some(hull) = hull(runs) else { return Ok(()) };
        let warm = !self.always_direct
            && (self.mapping.is_in_memory() || probe::is_cached_anywhere(self.mapping.file(), &hull));
        let mut rest = &runs[..];
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(self.lay_out_batch(rest, warm, batches));
            rest = after;
            if batches.way == Way::Direct {
                if let Some(counts) = self.read_pieces(batches)? {
                    self.scatter(buffer, batch, batches, &counts)?;
                    continue;
                }
            }
            self.read_batch_buffered(buffer, batch, batches)?;
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
            let read = |piece: &Piece| self.read_piece(&mut pages[piece.at.clone()], piece.offset);
            let counts = pieces.iter().map(read).collect::<Result<Vec<_>>>()?;
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
        if queue.is_none() && pieces.len() > 1 {
            *queue = ReadQueue::new();
        }
        let counts = match queue {
            Some(queue) if pieces.len() > 1 => queue.read(direct, pages, pieces),
            _ => pieces
                .iter()
                .map(|piece| sys::read_up_to(direct, &mut pages[piece.at.clone()], piece.offset))
                .collect(),
        };
        self.note_refusal(counts)
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
