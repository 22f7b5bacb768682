//! Making what was stored durable, and never saying so when it is not.

use super::Mapping;
use super::cache::few;
use crate::access::AccessMode;
use crate::error::{Error, ErrorKind, Result};
use crate::sync;
use crate::sys;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

impl Mapping {
    /// Flushes everything.
    pub(crate) fn flush(&self) -> Result<()> {
        self.flush_ranges(std::iter::once(self.file_bytes()))
    }

    /// Makes ranges of the file durable. A reader has written nothing, a private copy has no file.
    pub(crate) fn flush_ranges(&self, ranges: impl Iterator<Item = Range<u64>>) -> Result<()> {
        self.check_open("flush")?;
        self.flush_as(self.access(), ranges)
    }

    pub(super) fn flush_as(
        &self,
        access: AccessMode,
        ranges: impl Iterator<Item = Range<u64>>,
    ) -> Result<()> {
        self.check_intact("flush")?;
        if access != AccessMode::ReadWrite {
            return Ok(());
        }
        let ranges = few(ranges.filter(|range| !range.is_empty()));
        self.synced(|| ranges.iter().try_for_each(|range| self.sync_mapped(range)))?;
        // The kernel says Ok of pages that faulted, and of pages that were cut off the file: ask once more.
        self.check_intact("flush")?;
        self.check_length("flush")
    }

    /// An error if the file was cut short while it was mapped: what was stored beyond its end is lost, without a fault
    /// if it was stored before, or in the file's last page.
    fn check_length(&self, operation: &'static str) -> Result<()> {
        let needed = self.file_bytes().end;
        let len = sys::status(&self.file)
            .map_err(|error| Error::io(operation, "to read the file's length", error).at(&self.path))?
            .len;
        if len >= needed {
            return Ok(());
        }
        let (expected, found) = (format!("a file of at least {needed} bytes"), format!("{len} bytes"));
        Err(Error::new(ErrorKind::LengthMismatch, operation, expected, found).at(&self.path).or_else_try(
            "somebody has cut it short while it was mapped: what was stored beyond its end is lost",
        ))
    }

    /// Runs a sync, and says Ok only if none that ran at the same time has failed: the kernel tells of a page that could not
    /// be written once, to whichever sync asks first, and says Ok to the others.
    pub(super) fn synced(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<()> {
        self.check_not_poisoned()?;
        {
            let _under_way = sync::read(&self.syncs);
            sync().map_err(|error| self.poison(error))?;
        }
        // Those that overlapped have said how they ended when this lock is free.
        drop(sync::write(&self.syncs));
        self.check_not_poisoned()
    }

    /// An error for ever after a failed sync: the kernel reports it once, and the next sync says Ok without the bytes.
    pub(super) fn check_not_poisoned(&self) -> Result<()> {
        if !self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        let (expected, found) = ("bytes that can be made durable", "an earlier flush that failed");
        Err(Error::new(ErrorKind::Poisoned, "flush", expected, found)
            .at(&self.path)
            .or_else_try("open the file again and check what it holds"))
    }

    pub(super) fn poison(&self, error: io::Error) -> Error {
        self.poisoned.store(true, Ordering::Release);
        Error::io("flush", "bytes to reach the disk", error).at(&self.path)
    }
}
