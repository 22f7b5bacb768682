//! [`Output`]: the file to which the blocks of a stream are written.

use crate::error::{Error, ErrorKind, Result};
use crate::file::Draft;
use crate::io::{self, Transfer, WriteError, Writer};
use crate::map::{Lease, Mapping};
use crate::sys::{self, AlignedBuf, page_bytes};
use std::ops::Range;

/// The destination of the blocks of a stream: a new file, or the part of a file that a mapped array covers.
#[derive(Debug)]
pub(super) struct Output<'o> {
    writer: Writer<'o>,
    destination: Destination<'o>,
    transfer: Transfer,
}

#[derive(Debug)]
enum Destination<'o> {
    NewFile(&'o Draft),
    /// A mapped array. `len` is the number of bytes to write.
    Array {
        mapping: &'o Mapping,
        len: u64,
    },
}

impl<'o> Output<'o> {
    /// Prepares to write the rows of a new file, and writes the bytes before the rows: the header, or zeros before the
    /// offset of a raw file.
    pub(super) fn new_file(draft: &'o Draft, transfer: Transfer) -> Result<Self> {
        let (header, data) = (draft.header(), draft.data_bytes());
        let start = data.start;
        let writer = Writer::for_new_file(draft.file(), header, data, transfer)
            .map_err(|error| draft.failed("to write the header", error))?;
        let output = Self { writer, destination: Destination::NewFile(draft), transfer };
        // The pages before the first page with rows are zero, because nothing writes them.
        let zeros_start = (start - start % page_bytes() as u64).max(header.len() as u64);
        if zeros_start < start {
            output.write_bytes(&vec![0; (start - zeros_start) as usize], zeros_start)?;
        }
        Ok(output)
    }

    /// Prepares to write the part `bytes` of a mapped array's file.
    pub(super) fn array(mapping: &'o Mapping, bytes: Range<u64>, transfer: Transfer) -> Self {
        let len = bytes.end - bytes.start;
        let writer = Writer::for_part(mapping.file(), bytes, transfer);
        Self { writer, destination: Destination::Array { mapping, len }, transfer }
    }

    /// Returns the offset in the file at which the written range starts.
    pub(super) fn start(&self) -> u64 {
        self.writer.start()
    }

    /// Takes a lease on a destination array, so that it is not closed while bytes are written to its file. Returns an
    /// error if the file was truncated. A write after the new end of the file would make the file longer, and so hide
    /// that bytes were lost.
    pub(super) fn lease(&self) -> Result<Option<Lease<'o>>> {
        match self.destination {
            Destination::NewFile(_) => Ok(None),
            Destination::Array { mapping, .. } => {
                let lease = mapping.lease("stream")?;
                mapping.check_length("stream")?;
                Ok(Some(lease))
            }
        }
    }

    /// Writes a block from the buffer. [`Writer::write`] describes where in the buffer the block lies.
    pub(super) fn write(&self, buffer: &mut AlignedBuf, block: &Range<u64>) -> Result<()> {
        let _lease = self.lease()?;
        self.writer.write(buffer, block).map_err(|error| self.failed(error))
    }

    /// Writes a few bytes from ordinary memory.
    pub(super) fn write_bytes(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let _lease = self.lease()?;
        self.writer.write_bytes(bytes, offset).map_err(|error| self.failed(error))
    }

    /// Reserves disk space for a range of a new file. If the output is an existing array, does nothing.
    pub(super) fn reserve(&self, bytes: Range<u64>) -> Result<()> {
        match self.destination {
            Destination::NewFile(draft) => draft.reserve_rows(bytes),
            Destination::Array { .. } => Ok(()),
        }
    }

    /// Writes zeros: see [`Writer::write_zeros`].
    pub(super) fn write_zeros(&self, bytes: &Range<u64>) -> Result<()> {
        let _lease = self.lease()?;
        self.writer.write_zeros(bytes).map_err(|error| self.failed(error))
    }

    /// Returns the part of a range that can share disk space with the source, if the caller's choice permits it.
    /// `is_whole_file` tells whether the stream copies all data bytes of a file.
    pub(super) fn clonable(&self, bytes: &Range<u64>, is_whole_file: bool) -> Range<u64> {
        let is_wanted = match (self.transfer, &self.destination) {
            (Transfer::Clone, _) => true,
            (Transfer::Auto, Destination::NewFile(draft)) => is_whole_file && !draft.must_reserve(),
            _ => false,
        };
        if is_wanted { self.writer.clonable(bytes) } else { bytes.start..bytes.start }
    }

    /// Makes the output share the disk space of the source's bytes. Returns `false` if the two files cannot share
    /// space.
    pub(super) fn clone_from(&self, source: &io::Reader, bytes: &Range<u64>, at: u64) -> Result<bool> {
        let _lease = self.lease()?;
        let cloned = source.clone_to(bytes, self.writer.file(), at);
        cloned.map_err(|error| self.failed(WriteError::Refused(error)))
    }

    /// Writes whole mapped pages, under a [lease](Self::lease): see [`Writer::write_mapped_pages`].
    pub(super) fn write_mapped_pages(&self, pages: &[u8], offset: u64) -> Result<(), WriteError> {
        self.writer.write_mapped_pages(pages, offset)
    }

    /// Waits for all write-back.
    pub(super) fn finish(self) -> Result<()> {
        let Self { writer, destination, .. } = self;
        writer.finish().map_err(|error| destination.failed(error))
    }

    /// Returns the crate's error for a failed write.
    pub(super) fn failed(&self, error: WriteError) -> Error {
        self.destination.failed(error)
    }
}

impl Destination<'_> {
    fn failed(&self, error: WriteError) -> Error {
        match (self, error) {
            (Self::NewFile(draft), error) => draft.failed("to write the rows", error.into_io()),
            (Self::Array { mapping, .. }, WriteError::WriteBack(error)) => mapping.poison(error),
            (Self::Array { mapping, len }, WriteError::Refused(error)) => {
                let error = match ErrorKind::of_io(&error) {
                    ErrorKind::StorageFull => {
                        Error::no_space("stream", *len, sys::free_bytes(mapping.file()), error)
                    }
                    _ => Error::io("stream", format!("to write {len} bytes of rows"), error),
                };
                error.at(mapping.path())
            }
        }
    }
}
