//! Reading parts of a mapped file into buffers, past the mapping: a file that shrinks meanwhile is an error, no signal.

mod batch;

pub(in crate::stream) use self::batch::{Batches, Run};

use super::probe::{self, Transfer};
use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::to_pages;
use crate::map::Mapping;
use crate::sys::{self, AlignedBuf, page_bytes};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A file that is read, and how.
#[derive(Debug)]
pub struct Reader {
    mapping: Arc<Mapping>,
    /// The array is a private copy: of what was changed, memory is read.
    private: bool,
    direct: Option<File>,
    /// A direct read was refused: none is tried any more.
    refused: AtomicBool,
    /// Resident or not, go past the cache.
    always_direct: bool,
    /// Less than half of what is read was in the cache. Then nothing is brought into it, or it is dropped again, and what is
    /// there is read without the kernel's read-ahead, which would bring in the rest.
    is_cold: bool,
}

impl Reader {
    /// `bytes` is the part of the file that will be read.
    pub(super) fn new(mapping: Arc<Mapping>, bytes: &Range<u64>, transfer: Transfer) -> Self {
        Self {
            private: mapping.access() == AccessMode::CopyOnWrite,
            direct: probe::direct_handle(mapping.file(), false, transfer),
            refused: AtomicBool::new(false),
            always_direct: transfer == Transfer::Direct,
            is_cold: !mapping.is_in_memory() && !probe::is_warm(&mapping, bytes),
            mapping,
        }
    }

    pub(super) fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// Whether a part of the file is best taken from the page cache.
    pub(super) fn is_resident(&self, bytes: &Range<u64>) -> bool {
        if self.always_direct || self.reads_ahead() {
            return false;
        }
        self.mapping.is_in_memory() || probe::is_resident(&self.mapping, bytes)
    }

    /// Whether the mapped pages of a part of the file can be handed to the kernel as they are. Those of a private copy could,
    /// but would stay in this process.
    pub(super) fn is_at_hand(&self, bytes: &Range<u64>) -> bool {
        !self.private && !self.is_cold && self.is_resident(bytes)
    }

    /// Whether what is in the cache is there because of this reader, which drops it behind.
    fn reads_ahead(&self) -> bool {
        self.is_cold && self.direct().is_none()
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
            _ if sys::is_bad_address(&error) => self.shrunk(),
            _ => Error::io("stream", "to read the source", error).at(self.mapping.path()),
        }
    }

    /// The error of a file that has become shorter than its array.
    pub(super) fn shrunk(&self) -> Error {
        let needed = self.mapping.file_bytes().end;
        let len = sys::status(self.mapping.file()).map_or(0, |status| status.len);
        let (expected, found) =
            (format!("at least {needed} bytes of source"), format!("{len} bytes, as the file was cut short"));
        Error::new(ErrorKind::LengthMismatch, "stream", expected, found).at(self.mapping.path())
    }

    /// An error if the file ends before this byte.
    pub(super) fn check_length(&self, end: u64) -> Result<()> {
        let status = sys::status(self.mapping.file()).map_err(|error| self.failed(error))?;
        if status.len < end { Err(self.shrunk()) } else { Ok(()) }
    }

    /// Reads a part of the array to where it lies in its pages: byte `b` of the file is byte `b - start` of the buffer,
    /// where `start` is the start of the part's first page. Bytes of these pages beside the part are not to be relied on.
    pub(super) fn read_span(&self, buffer: &mut AlignedBuf, bytes: &Range<u64>) -> Result<()> {
        self.mapping.check_usable("stream")?;
        let pages = to_pages(bytes.clone(), page_bytes());
        let len = (pages.end - pages.start) as usize; // the buffer has room for it
        let buffer = &mut buffer.bytes_mut()[..len];
        self.read_pages(buffer, &pages, bytes)?;
        for changed in self.changed_parts(bytes) {
            let at = (changed.start - pages.start) as usize..(changed.end - pages.start) as usize;
            self.copy_private(&mut buffer[at], changed.start)?;
        }
        self.check_after()
    }

    /// An error if what was read of a private copy may have been made up meanwhile, by the answer to a fault.
    fn check_after(&self) -> Result<()> {
        if self.private { self.mapping.check_usable("stream") } else { Ok(()) }
    }

    /// Reads the part of a file that lies in these pages.
    fn read_pages(&self, buffer: &mut [u8], pages: &Range<u64>, bytes: &Range<u64>) -> Result<()> {
        let lead = (bytes.start - pages.start) as usize;
        let wanted = lead + (bytes.end - bytes.start) as usize;
        let is_resident = self.is_resident(bytes);
        if is_resident && self.is_cold {
            let cached = sys::read_cached(self.mapping.file(), &mut buffer[lead..wanted], bytes.start);
            if cached.is_ok_and(|read| read == wanted - lead) {
                return Ok(());
            }
        }
        let by_cache = is_resident && !self.is_cold;
        if let Some(direct) = self.direct().filter(|_| !by_cache) {
            let read = sys::read_up_to(direct, buffer, pages.start);
            if let Some(read) = self.note_refusal(read)? {
                return if read >= wanted { Ok(()) } else { Err(self.shrunk()) };
            }
        }
        self.read_exact(&mut buffer[lead..wanted], bytes.start)?;
        if !by_cache {
            self.drop_read(bytes);
        }
        Ok(())
    }

    /// Reads by way of the page cache.
    fn read_exact(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        sys::fs::read_exact_at(self.mapping.file(), buffer, offset).map_err(|error| self.failed(error))
    }

    /// Which parts of a private copy are not those of its file.
    fn changed_parts(&self, bytes: &Range<u64>) -> Vec<Range<u64>> {
        if self.private { self.mapping.changed_parts(bytes) } else { Vec::new() }
    }

    fn copy_private(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.mapping.copy_private(offset, buffer).map_err(|error| self.failed(error))
    }

    /// Gives back pages that this reader has brought into the cache.
    fn drop_read(&self, bytes: &Range<u64>) {
        if self.is_cold {
            self.mapping.drop_behind(bytes);
        }
    }
}
