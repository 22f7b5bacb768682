//! [`Reader`]: reads parts of a file into buffers. If the file is truncated meanwhile, the result is an error, not a
//! signal.

use super::Transfer;
use super::route::DirectHandle;
use super::window::drop_cached_behind;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::to_pages;
use crate::sys::{self, AlignedBuf, FileId, PageCounter, page_bytes};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A reader of a part of a file.
#[derive(Debug)]
pub(crate) struct Reader {
    file: Arc<File>,
    path: PathBuf,
    /// The part of the file that is read.
    bytes: Range<u64>,
    direct: Arc<DirectHandle>,
    page_counter: PageCounter,
    /// Whether resident pages, too, are read by direct I/O.
    always_direct: bool,
    /// Whether the page cache is the file (tmpfs).
    in_memory: bool,
    /// Whether the part of the file may have holes, and the system can find them.
    has_holes: bool,
    /// Whether at most half of the part of the file was resident at the start. Such a reader leaves the page cache
    /// unchanged: it drops the pages that its own reads make resident, and it reads resident pages without the kernel's
    /// read-ahead.
    is_cold: bool,
}

impl Reader {
    /// Prepares to read the part `bytes` of a file.
    pub(crate) fn new(
        file: &Arc<File>,
        id: FileId,
        path: &Path,
        bytes: Range<u64>,
        transfer: Transfer,
    ) -> Self {
        let in_memory = sys::is_memory_filesystem(file);
        let page_counter = PageCounter::default();
        let pages = to_pages(bytes.clone(), page_bytes());
        Self {
            direct: DirectHandle::for_reading(file, id, transfer),
            always_direct: transfer == Transfer::Direct,
            is_cold: !in_memory && !page_counter.most_resident(file, pages),
            has_holes: sys::finds_holes(file) && sys::next_data(file, bytes.clone()) != bytes,
            page_counter,
            in_memory,
            file: Arc::clone(file),
            path: path.to_path_buf(),
            bytes,
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns whether more than half of the part was resident at the start, or the file lies in memory.
    pub(crate) fn is_warm(&self) -> bool {
        !self.is_cold
    }

    pub(super) fn direct(&self) -> &DirectHandle {
        &self.direct
    }

    /// Returns whether more than half of the part was resident at the start, and the page cache may be used.
    pub(crate) fn prefers_cache(&self) -> bool {
        !self.always_direct && !self.is_cold
    }

    /// Returns whether the part to read contains all data bytes of its file, up to the end of the file.
    pub(crate) fn ends_with_file(&self) -> bool {
        sys::status(&self.file).is_ok_and(|status| status.len == self.bytes.end)
    }

    /// Returns the first part of a range that may contain bytes other than zero, as [`sys::next_data`] does. Returns an
    /// error if the file now ends before this part.
    pub(crate) fn next_data(&self, bytes: Range<u64>) -> Result<Range<u64>> {
        if !self.has_holes {
            return Ok(bytes);
        }
        let data = sys::next_data(&self.file, bytes.clone());
        if data.start > bytes.start {
            self.check_length(data.start)?;
        }
        Ok(data)
    }

    /// Makes a range of `to` share the disk space of a range of the file. Returns `false`, and changes nothing, if the
    /// two files cannot share space.
    pub(crate) fn clone_to(&self, bytes: &Range<u64>, to: &File, at: u64) -> io::Result<bool> {
        match sys::clone_range(&self.file, bytes, to, at) {
            Err(error) if sys::cannot_share(&error) => Ok(false),
            cloned => cloned.map(|()| true),
        }
    }

    /// Returns whether a block should be read from the page cache.
    pub(crate) fn is_resident(&self, bytes: &Range<u64>) -> bool {
        // Do not ask whether the block is resident: without direct I/O, the read-ahead of this reader itself can have
        // made the block resident.
        if self.always_direct || (self.is_cold && self.direct.get().is_none()) {
            return false;
        }
        self.in_memory || self.page_counter.all_resident(&self.file, to_pages(bytes.clone(), page_bytes()))
    }

    /// Returns the crate's error for a failed read.
    pub(crate) fn failed(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.shrunk(),
            _ if sys::is_bad_address(&error) => self.shrunk(),
            _ => Error::io("stream", "to read the source", error).at(&self.path),
        }
    }

    /// Returns the error for a file that is now shorter than the part to read.
    pub(crate) fn shrunk(&self) -> Error {
        let len = sys::status(&self.file).map_or(0, |status| status.len);
        let expected = format!("at least {} bytes of source", self.bytes.end);
        let found = format!("{len} bytes, as the file was cut short");
        Error::new(ErrorKind::LengthMismatch, "stream", expected, found)
            .at(&self.path)
            .with_remedy("restore the file; the array on it must be opened again")
    }

    /// Returns an error if the file now ends before the offset `end`.
    pub(crate) fn check_length(&self, end: u64) -> Result<()> {
        let status = sys::status(&self.file).map_err(|error| self.failed(error))?;
        if status.len < end { Err(self.shrunk()) } else { Ok(()) }
    }

    /// Reads a block into the buffer. Byte `b` of the file goes to byte `b - start` of the buffer, where `start` is the
    /// start of the block's first page. The buffer's other bytes have no defined value afterwards.
    pub(crate) fn read_span(&self, buffer: &mut AlignedBuf, bytes: &Range<u64>) -> Result<()> {
        let pages = to_pages(bytes.clone(), page_bytes());
        let buffer = &mut buffer.bytes_mut()[..(pages.end - pages.start) as usize]; // the caller has allocated this length
        let lead = (bytes.start - pages.start) as usize;
        let wanted = lead + (bytes.end - bytes.start) as usize;
        if self.next_data(bytes.clone())?.is_empty() {
            buffer[lead..wanted].fill(0);
            return Ok(());
        }
        // If the system can check only a sample of the pages, the read itself shows whether the block is resident.
        let is_tried = self.prefers_cache() && self.page_counter.is_sampling(&self.file);
        let is_resident = !is_tried && self.is_resident(bytes);
        if is_tried || (is_resident && self.is_cold) {
            let cached = sys::read_cached(&self.file, &mut buffer[lead..wanted], bytes.start);
            if cached.is_ok_and(|read| read == wanted - lead) {
                return Ok(());
            }
        }
        let by_cache = is_resident && !self.is_cold;
        if let Some(direct) = self.direct.get().filter(|_| !by_cache) {
            let read = sys::read_up_to(direct, buffer, pages.start);
            if let Some(read) = self.direct.unless_refused(read).map_err(|error| self.failed(error))? {
                return if read >= wanted { Ok(()) } else { Err(self.shrunk()) };
            }
        }
        self.read_exact(&mut buffer[lead..wanted], bytes.start)?;
        if !by_cache {
            self.drop_read(bytes);
        }
        Ok(())
    }

    /// Reads through the page cache.
    pub(crate) fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        sys::fs::read_exact_at(&self.file, buffer, offset).map_err(|error| self.failed(error))
    }

    /// Drops pages that this reader has made resident.
    pub(super) fn drop_read(&self, bytes: &Range<u64>) {
        if self.is_cold {
            drop_cached_behind(&self.file, bytes, self.bytes.start);
        }
    }
}
