//! [`Writer`]: writes blocks of bytes to their offsets in a file, from any thread, in any order.

use super::Transfer;
use super::route::DirectHandle;
use super::seams::{Seams, split_at_pages};
use super::window::{Window, WriteError};
use crate::sys::{self, AlignedBuf, page_bytes};
use std::fs::File;
use std::io;
use std::ops::Range;

/// The size in bytes of the writes that replace data by zeros.
const ZERO_BYTES: u64 = 1 << 20;

/// Writes a range of a file, block by block.
///
/// The whole pages of a block are written by direct I/O if the file supports it. A block shares the pages at its two
/// ends with other blocks. [`Seams`] collects the parts of such a page, and the thread that adds the last part writes
/// the page together with its own block. A page that contains bytes outside the range is written through the page
/// cache, and only the bytes of the range are written.
#[derive(Debug)]
pub(crate) struct Writer<'f> {
    file: &'f File,
    bytes: Range<u64>,
    /// Whether the first and the last page contain bytes outside the range that must not change.
    shares_pages: bool,
    /// The part of the file that may be written by direct I/O.
    direct_bytes: Range<u64>,
    direct: DirectHandle,
    seams: Seams,
    window: Window,
    finds_holes: bool,
}

impl<'f> Writer<'f> {
    /// Prepares to write a part of a file. The other bytes of the file do not change.
    pub(crate) fn for_part(file: &'f File, bytes: Range<u64>, transfer: Transfer) -> Self {
        let direct_bytes = inner_folios(&bytes);
        Self::new(file, bytes, Some(direct_bytes), transfer)
    }

    /// Prepares to write the `data` that follows `header` in a new file, and writes the header. Until
    /// [`finish`](Self::finish), the file may be longer than header and data.
    pub(crate) fn for_new_file(
        file: &'f File,
        header: &[u8],
        data: Range<u64>,
        transfer: Transfer,
    ) -> io::Result<Self> {
        let writer = Self::new(file, data, None, transfer);
        writer.write_bytes(header, 0).map_err(WriteError::into_io)?;
        Ok(writer)
    }

    /// Prepares to write a range. `shared` is `Some` if the first and the last page contain other bytes that must not
    /// change. The value is the part of the range that may be written by direct I/O.
    fn new(file: &'f File, bytes: Range<u64>, shared: Option<Range<u64>>, transfer: Transfer) -> Self {
        Self {
            shares_pages: shared.is_some(),
            window: Window::new(file, if shared.is_some() { bytes.start } else { 0 }),
            direct_bytes: shared.unwrap_or(0..u64::MAX),
            direct: DirectHandle::open(file, true, transfer),
            seams: Seams::default(),
            finds_holes: sys::finds_holes(file),
            file,
            bytes,
        }
    }

    /// Returns the offset in the file at which the range starts.
    pub(crate) fn start(&self) -> u64 {
        self.bytes.start
    }

    /// Writes a block from the buffer. Byte `b` of the file is byte `b - start` of the buffer, where `start` is the
    /// start of the block's first page. May change the buffer's bytes outside the block.
    pub(crate) fn write(&self, buffer: &mut AlignedBuf, block: &Range<u64>) -> Result<(), WriteError> {
        let base = block.start - block.start % page_bytes() as u64;
        let within = |range: &Range<u64>| (range.start - base) as usize..(range.end - base) as usize;
        if !self.direct.is_open() {
            return self.window.write(self.file, &buffer.bytes()[within(block)], block.start);
        }
        let (head, mut whole, tail) = split_at_pages(block);
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

    /// Writes whole pages of mapped memory. Only the kernel reads this memory, so if the mapped file was truncated, the
    /// system call fails with `EFAULT`, and no signal is raised. `pages` are written at `offset`, which is a multiple
    /// of the page size.
    pub(crate) fn write_mapped_pages(&self, pages: &[u8], offset: u64) -> Result<(), WriteError> {
        self.write_pages(pages, offset)
    }

    /// Writes a few bytes from ordinary memory, at any offset of the range.
    pub(crate) fn write_bytes(&self, bytes: &[u8], offset: u64) -> Result<(), WriteError> {
        if !self.direct.is_open() {
            return self.window.write(self.file, bytes, offset);
        }
        let mut rest = bytes;
        let mut offset = offset;
        while !rest.is_empty() {
            let room = page_bytes() - (offset % page_bytes() as u64) as usize;
            let (part, after) = rest.split_at(room.min(rest.len()));
            if let Some(page) = self.add_part(part, offset)? {
                let mut buffer = AlignedBuf::new(page.len()).map_err(WriteError::Refused)?;
                buffer.bytes_mut().copy_from_slice(&page);
                self.write_pages(buffer.bytes(), offset - offset % page_bytes() as u64)?;
            }
            offset += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    /// Writes zeros. Does not write whole pages of a new file or holes of an existing file, because their bytes are
    /// already zero.
    pub(crate) fn write_zeros(&self, bytes: &Range<u64>) -> Result<(), WriteError> {
        let (head, pages, tail) = split_at_pages(bytes);
        for part in [head, tail] {
            self.write_bytes(&vec![0; (part.end - part.start) as usize], part.start)?; // less than a page
        }
        let mut at = if self.shares_pages { pages.start } else { pages.end };
        while at < pages.end {
            let range = at..pages.end;
            let data = if self.finds_holes { sys::next_data(self.file, range) } else { range };
            at = data.end.next_multiple_of(page_bytes() as u64);
            self.zero_pages(data.start - data.start % page_bytes() as u64..at)?;
        }
        Ok(())
    }

    /// Replaces whole pages by zeros. Their disk space stays reserved.
    fn zero_pages(&self, pages: Range<u64>) -> Result<(), WriteError> {
        if pages.is_empty() {
            return Ok(());
        }
        let inner = self.clonable(&pages);
        let zeroed = if inner.is_empty() { Ok(()) } else { sys::zero(self.file, inner.clone()) };
        let rest = match zeroed {
            Err(error) if sys::refuses_arguments(&error) => [pages, inner.end..inner.end],
            zeroed => {
                zeroed.map_err(WriteError::Refused)?;
                [pages.start..inner.start, inner.end..pages.end]
            }
        };
        let block = |range: &Range<u64>| (range.end - range.start).min(ZERO_BYTES);
        let longest = rest.iter().map(block).max().unwrap_or(0);
        let zeros = AlignedBuf::new(longest as usize).map_err(WriteError::Refused)?; // at most `ZERO_BYTES`
        for mut range in rest {
            while !range.is_empty() {
                let len = block(&range);
                self.write_pages(&zeros.bytes()[..len as usize], range.start)?;
                range.start += len;
            }
        }
        Ok(())
    }

    /// Returns the whole pages of a range that share no folio with bytes outside the part to write. If there are no
    /// such pages, the result is an empty range that lies inside the given range.
    pub(crate) fn clonable(&self, bytes: &Range<u64>) -> Range<u64> {
        let (_, pages, _) = split_at_pages(bytes);
        let start = pages.start.max(self.direct_bytes.start).min(pages.end);
        start..pages.end.min(self.direct_bytes.end).max(start)
    }

    /// Returns the file.
    pub(crate) fn file(&self) -> &File {
        self.file
    }

    /// Adds bytes of one page to the other parts of the page. Returns the page if it is now complete and must be
    /// written.
    fn add_part(&self, part: &[u8], offset: u64) -> Result<Option<Box<[u8]>>, WriteError> {
        if part.is_empty() {
            return Ok(None);
        }
        let page = page_bytes() as u64;
        let start = offset - offset % page;
        if self.shares_pages && (start < self.bytes.start || start + page > self.bytes.end) {
            let written = sys::fs::write_all_at(self.file, part, offset);
            return written.map(|()| None).map_err(WriteError::Refused);
        }
        // All pages of a new file are already zero. So a page that contains parts of the same hole from two blocks is
        // not written, and stays a hole.
        let must_be_written = |page: &[u8]| self.shares_pages || page.iter().any(|&byte| byte != 0);
        if let Some(whole) = self.seams.add(offset, part) {
            return Ok(Some(whole).filter(|page| must_be_written(page)));
        }
        // After the last byte of a new file there are no other bytes. The rest of the last page is filled with zeros,
        // and `finish` truncates the file to remove them.
        if offset + part.len() as u64 == self.bytes.end {
            let missing = (start + page - self.bytes.end) as usize; // less than the page size
            return Ok(self
                .seams
                .add(self.bytes.end, &vec![0; missing])
                .filter(|page| must_be_written(page)));
        }
        Ok(None)
    }

    /// Writes whole pages, by direct I/O if possible.
    fn write_pages(&self, pages: &[u8], offset: u64) -> Result<(), WriteError> {
        if pages.is_empty() {
            return Ok(());
        }
        let end = offset + pages.len() as u64;
        if !self.shares_pages && sys::check_file_size_limit(end).is_err() {
            // The file-size limit of this process allows the last byte of the file, but not the bytes after it in the
            // same page.
            let len = (self.bytes.end.min(end) - offset) as usize; // at most the length of `pages`
            return self.window.write(self.file, &pages[..len], offset);
        }
        let may_be_direct = self.direct_bytes.start <= offset && end <= self.direct_bytes.end;
        if let Some(direct) = self.direct.get().filter(|_| may_be_direct) {
            let written = sys::fs::write_all_at(direct, pages, offset);
            if self.direct.unless_refused(written).map_err(WriteError::Refused)?.is_some() {
                return Ok(());
            }
        }
        self.window.write(self.file, pages, offset)
    }

    /// Waits for all write-back, and truncates a new file to its length. The bytes are durable only after a sync.
    pub(crate) fn finish(self) -> Result<(), WriteError> {
        debug_assert!(self.seams.is_empty(), "the blocks wrote every page of the range");
        self.window.finish(self.file).map_err(WriteError::WriteBack)?;
        if !self.shares_pages {
            sys::fs::set_len(self.file, self.bytes.end).map_err(WriteError::Refused)?;
        }
        Ok(())
    }
}

/// Returns the part of a range that shares no folio of the page cache with bytes outside the range.
///
/// A direct write drops the resident pages of its range. The kernel cannot drop a folio that crosses an edge of the
/// range if another program stores into the folio meanwhile. The kernel then reports an I/O error to every program that
/// has the file open, and later writes the old folio back over the new bytes.
fn inner_folios(bytes: &Range<u64>) -> Range<u64> {
    // The order of the kernel's largest folio, MAX_PAGECACHE_ORDER: the order of a huge page, but at most 11.
    let order = if page_bytes() == 4096 { 9 } else { 11 };
    let folio = (page_bytes() as u64) << order;
    let start = bytes.start.checked_next_multiple_of(folio).unwrap_or(u64::MAX);
    start..(bytes.end - bytes.end % folio).max(start)
}
