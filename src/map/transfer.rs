//! Operations for a stream that reads or writes the file of a mapping directly: reserving disk space, and syncing.

use super::Mapping;
use crate::error::{Error, Result};
use crate::sys;
use ndarray::{ArrayRef, Dimension};

impl Mapping {
    /// Allocates disk space for the pages of a view if the file has holes, so that a store does not fault on a full disk.
    /// Does nothing if the filesystem cannot reserve space.
    pub(crate) fn reserve_under<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> Result<()> {
        let failed = |error| Error::io("copy_into", "disk space for the destination", error).at(&self.path);
        let status = sys::status(&self.file).map_err(failed)?;
        if status.allocated_bytes >= status.len {
            return Ok(());
        }
        let end = self.file_bytes.end;
        for pages in self.pages_in_file(self.runs_of(view)) {
            match sys::reserve(&self.file, pages.start..pages.end.min(end)) {
                Err(error) if sys::is_unsupported(&error) => return Ok(()),
                reserved => reserved.map_err(failed)?,
            }
        }
        Ok(())
    }

    /// Makes the bytes durable that a stream has written to the file, not through the mapping.
    pub(crate) fn sync_transfer(&self, operation: &'static str) -> Result<()> {
        let _lease = self.lease(operation)?;
        self.synced(|| sys::fs::sync_data(&self.file)).map_err(|error| error.during(operation))
    }
}
