//! What a stream asks of a mapping whose file it reads or writes directly: disk space, and agreement between file and mapping.

use super::Mapping;
use crate::access::AccessMode;
use crate::error::{Error, Result};
use crate::sys;
use ndarray::{ArrayRef, Dimension};

impl Mapping {
    /// Takes disk space for the pages under a view, if the file has holes, so that a store there does not fault on a full disk. Does
    /// nothing where the filesystem cannot reserve space, and for a copy-on-write mapping, whose stores stay in memory. Returns an error
    /// if the file was cut short: reserving would make it as long as before, and hide that bytes were lost.
    pub(crate) fn reserve_under<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> Result<()> {
        if self.access() == AccessMode::CopyOnWrite {
            return Ok(());
        }
        self.check_length("copy_into")?;
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

    /// Makes durable what a stream has written to the file beside the mapping.
    pub(crate) fn sync_transfer(&self, operation: &'static str) -> Result<()> {
        let _lease = self.lease(operation)?;
        self.synced(|| sys::fs::sync_data(&self.file)).map_err(|error| error.during(operation))
    }
}
