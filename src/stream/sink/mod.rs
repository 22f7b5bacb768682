//! [`Sink`]: where blocks of bytes go, each to its place in a file, from any thread, in any order.

mod seams;
mod window;

use self::seams::{Seams, split};
use self::window::Window;
use super::probe::{self, Transfer};
use crate::sys::{self, AlignedBuf, page_bytes};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// A range of bytes of a file that is written block by block.
///
/// The whole pages of a block go past the page cache where the file has such a way. The pages at its ends are shared with
/// other blocks: their parts wait in `seams` for each other, and whoever brings the last part writes the page along with
/// its own. A page that is shared with bytes outside the range is written through the cache, its own bytes only.
#[derive(Debug)]
pub(super) struct Sink<'f> {
    file: &'f File,
    bytes: Range<u64>,
    /// Whether what lies beside the range in its first and last page is somebody else's.
    shares_pages: bool,
    /// The part of the file that may go past the page cache: no page of it is cached in one piece with a page of somebody
    /// else's.
    direct_bytes: Range<u64>,
    direct: Option<File>,
    /// A direct write was refused: pages are still put together, and go through the cache.
    refused: AtomicBool,
    seams: Seams,
    window: Window,
}

impl<'f> Sink<'f> {
    /// A sink for a part of a file whose other bytes must stay as they are.
    pub(super) fn part(file: &'f File, bytes: Range<u64>, transfer: Transfer) -> Self {
        Self::new(file, bytes, true, transfer)
    }

    /// A sink for the `data` that follows `header` in a new file. The file may be longer than that until
    /// [`finish`](Self::finish).
    pub(super) fn behind_header(
        file: &'f File,
        header: &[u8],
        data: Range<u64>,
        transfer: Transfer,
    ) -> io::Result<Self> {
        let sink = Self::new(file, data, false, transfer);
        sink.write_bytes(header, 0)?;
        Ok(sink)
    }

    fn new(file: &'f File, bytes: Range<u64>, shares_pages: bool, transfer: Transfer) -> Self {
        let direct_bytes = match shares_pages {
            true => inner_folios(&bytes),
            false => 0..u64::MAX,
        };
        Self {
            direct_bytes,
            direct: probe::direct_handle(file, true, transfer),
            refused: AtomicBool::new(false),
            seams: Seams::default(),
            window: Window::new(file),
            file,
            bytes,
            shares_pages,
        }
    }

    /// Where the range starts in the file.
    pub(super) fn start(&self) -> u64 {
        self.bytes.start
    }

    /// Whether whole pages can go past the cache.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.is_some() && !self.refused.load(Ordering::Relaxed)
    }

    /// Writes a block that lies in the buffer as in its pages: byte `b` of the file is byte `b - start` of the buffer, where
    /// `start` is the start of the block's first page. The bytes beside the block may be changed.
    pub(super) fn write(&self, buffer: &mut AlignedBuf, block: &Range<u64>) -> io::Result<()> {
        let base = block.start - block.start % page_bytes() as u64;
        let within = |range: &Range<u64>| (range.start - base) as usize..(range.end - base) as usize;
        if self.direct.is_none() {
            return self.window.write(self.file, &buffer.bytes()[within(block)], block.start);
        }
        let (head, mut whole, tail) = split(block);
        if let Some(page) = self.add_part(&buffer.bytes()[within(&head)], head.start)? {
            whole.start = base;
            buffer.bytes_mut()[..page.len()].copy_from_slice(&page);
            whole.end = whole.end.max(base + page.len() as u64);
        }
        if let Some(page) = self.add_part(&buffer.bytes()[within(&tail)], tail.start)? {
            let start = tail.start;
            whole.end = start + page.len() as u64;
            buffer.bytes_mut()[within(&(start..whole.end))].copy_from_slice(&page);
        }
        self.write_pages(&buffer.bytes()[within(&whole)], whole.start)
    }

    /// Writes bytes from memory as it is, which has to be aligned as their place in the file is for a direct write to work.
    pub(super) fn write_in_place(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let block = offset..offset + bytes.len() as u64;
        if self.direct.is_none() {
            return self.window.write(self.file, bytes, offset);
        }
        let (head, whole, tail) = split(&block);
        for part in [head, tail] {
            let from = (part.start - offset) as usize;
            let len = (part.end - part.start) as usize;
            self.write_bytes(&bytes[from..from + len], part.start)?;
        }
        let from = (whole.start - offset) as usize;
        let len = (whole.end - whole.start) as usize;
        self.write_pages(&bytes[from..from + len], whole.start)
    }

    /// Writes a few bytes, from anywhere in memory.
    fn write_bytes(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.direct.is_none() {
            return self.window.write(self.file, bytes, offset);
        }
        let mut rest = bytes;
        let mut offset = offset;
        while !rest.is_empty() {
            let room = page_bytes() - (offset % page_bytes() as u64) as usize;
            let (part, after) = rest.split_at(room.min(rest.len()));
            if let Some(page) = self.add_part(part, offset)? {
                let mut buffer = AlignedBuf::new(page.len())?;
                buffer.bytes_mut().copy_from_slice(&page);
                self.write_pages(buffer.bytes(), offset - offset % page_bytes() as u64)?;
            }
            offset += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// Adds bytes of one page to the others of it. The page, if these were the last.
    fn add_part(&self, part: &[u8], offset: u64) -> io::Result<Option<Box<[u8]>>> {
        if part.is_empty() {
            return Ok(None);
        }
        let page = page_bytes() as u64;
        let start = offset - offset % page;
        if self.shares_pages && (start < self.bytes.start || start + page > self.bytes.end) {
            return sys::fs::write_all_at(self.file, part, offset).map(|()| None);
        }
        if let Some(whole) = self.seams.add(offset, part) {
            return Ok(Some(whole));
        }
        // Nothing follows the last byte of a new file: the rest of its page is zeros, which `finish` cuts off.
        if offset + part.len() as u64 == self.bytes.end {
            let missing = (start + page - self.bytes.end) as usize; // less than a page
            return Ok(self.seams.add(self.bytes.end, &vec![0; missing]));
        }
        Ok(None)
    }

    /// Writes whole pages, past the cache if that is possible.
    fn write_pages(&self, pages: &[u8], offset: u64) -> io::Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let end = offset + pages.len() as u64;
        if !self.shares_pages && sys::check_file_size_limit(end).is_err() {
            // The process may write the last byte, but not the rest of its page.
            let len = (self.bytes.end.min(end) - offset) as usize; // at most the pages
            return self.window.write(self.file, &pages[..len], offset);
        }
        let may_be_direct = self.direct_bytes.start <= offset && end <= self.direct_bytes.end;
        if let Some(direct) = self.direct.as_ref().filter(|_| may_be_direct && self.is_direct()) {
            match sys::fs::write_all_at(direct, pages, offset) {
                Err(error) if probe::refuses_direct(&error) => self.refused.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        self.window.write(self.file, pages, offset)
    }

    /// Sees everything off. It is durable only after a sync.
    pub(super) fn finish(self) -> io::Result<()> {
        debug_assert!(self.seams.is_empty(), "every page of the range was written by its blocks");
        self.window.finish(self.file)?;
        if !self.shares_pages {
            sys::fs::set_len(self.file, self.bytes.end)?;
        }
        Ok(())
    }
}

/// The part of a range that no folio of the page cache shares with what lies beside the range.
///
/// A direct write drops the cached pages under it. If a neighbour stores into such a folio meanwhile, the kernel cannot drop
/// it, tells everybody who has the file open of an I/O error, and later writes the whole folio back, over the new bytes.
fn inner_folios(bytes: &Range<u64>) -> Range<u64> {
    // The kernel's MAX_PAGECACHE_ORDER: that of a huge page, but no more than 11.
    let order = if page_bytes() == 4096 { 9 } else { 11 };
    let folio = (page_bytes() as u64) << order;
    let start = bytes.start.checked_next_multiple_of(folio).unwrap_or(u64::MAX);
    start..(bytes.end - bytes.end % folio).max(start)
}
