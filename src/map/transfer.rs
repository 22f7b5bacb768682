//! What a stream asks of a mapping whose file it reads or writes directly: disk space, and agreement between file and mapping.

use super::Mapping;
use crate::error::{Error, Result};
use crate::sys;
use ndarray::{ArrayRef, Dimension};

impl Mapping {
    /// Takes disk space for the pages under a view, if the file has holes, so that a store there does not fault on a full disk. Does
    /// nothing where the filesystem cannot reserve space.
    pub(crate) fn reserve_under<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> Result<()> {
        let failed = |error| Error::io("stream", "to read the file's length", error).at(&self.path);
        let status = sys::status(&self.file).map_err(failed)?;
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

    /// Makes durable what a stream has written to the file beside the mapping.
    pub(crate) fn sync_transfer(&self) -> Result<()> {
        let _lease = self.lease("stream")?;
        self.synced(|| sys::fs::sync_data(&self.file))
    }
}
