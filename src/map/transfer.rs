//! Operations for a stream that reads or writes the file of a mapping directly: reserving disk space, and syncing.

use super::Mapping;
use crate::error::{Error, Result};
use crate::sys;
use ndarray::{ArrayRef, Dimension};

impl Mapping {
    /// Allocates disk space for the pages of a view if the file has holes, so that a store does not fault on a full
    /// disk. Does nothing if the filesystem cannot reserve space. Returns an error if the file was truncated: reserving
    /// space would make the file as long as before, and hide that bytes were lost.
    pub(crate) fn reserve_under<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> Result<()> {
        let status = self.status_if_whole("stream")?;
        if status.allocated_bytes >= status.len {
            return Ok(());
        }
        let end = self.file_bytes.end;
        for pages in self.pages_in_file(self.runs_of(view)) {
            match sys::reserve(&self.file, pages.start..pages.end.min(end)) {
                Err(error) if sys::is_unsupported(&error) => return Ok(()),
                reserved => reserved.map_err(|error| {
                    let free_bytes = sys::free_bytes(&self.file);
                    Error::no_space("stream", pages.end - pages.start, free_bytes, error).at(&self.path)
                })?,
            }
        }
        Ok(())
    }

    /// Makes the bytes durable that a stream has written directly to the file, not through the mapping. Afterwards,
    /// returns an error if the file has lost its name.
    pub(crate) fn sync_transfer(&self) -> Result<()> {
        let _lease = self.lease("stream")?;
        self.synced(|| sys::fs::sync_data(&self.file))?;
        self.check_name("stream")
    }
}
