//! Checks whether a mapping is usable: it must not be closed, must not have faulted, and must not be poisoned by a
//! failed sync.

use super::Mapping;
use crate::error::{Error, ErrorKind, Result};
use crate::fault;
use crate::sync::{self, atomic::Ordering};
use crate::sys::fault::Watch;
use std::io;

/// A lease on a mapping: closing the mapping waits until the lease is dropped. Keep a lease only for one block of a
/// transfer, and run no code of the crate's user meanwhile.
#[derive(Debug)]
pub(crate) struct Lease<'m> {
    mapping: &'m Mapping,
    operation: &'static str,
}

impl Lease<'_> {
    /// Returns an error if the mapping has faulted, or if a sync of the mapping has failed. Bytes that were written
    /// under the lease may then be missing from the file, and bytes that were read may not come from the file.
    #[inline]
    pub(crate) fn check_usable(&self) -> Result<()> {
        self.mapping.check_intact(self.operation)?;
        self.mapping.check_not_poisoned(self.operation)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.mapping.gate.give_back();
    }
}

impl Mapping {
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.gate.is_closed()
    }

    /// Takes a lease for one block of a transfer. Fails if the mapping is closed, has faulted or is poisoned.
    pub(crate) fn lease(&self, operation: &'static str) -> Result<Lease<'_>> {
        if !self.gate.lease() {
            return Err(self.closed(operation));
        }
        let lease = Lease { mapping: self, operation };
        lease.check_usable()?;
        Ok(lease)
    }

    /// Returns an error if the array was closed by its path.
    #[inline]
    pub(crate) fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.is_closed() { Err(self.closed(operation)) } else { Ok(()) }
    }

    fn closed(&self, operation: &'static str) -> Error {
        let (expected, found) = ("an open array", "one that was closed by its path");
        Error::new(ErrorKind::Closed, operation, expected, found)
            .at(&self.path)
            .with_remedy("drop it and open the file again")
    }

    /// Returns an error if the mapping has ever faulted: stores were lost, or loads read zeros that are not in the
    /// file.
    #[inline]
    pub(crate) fn check_intact(&self, operation: &'static str) -> Result<()> {
        match self.watch.as_ref().and_then(Watch::first_fault) {
            None => Ok(()),
            Some(offset) => Err(fault::error(operation, offset).at(&self.path)),
        }
    }

    /// Returns an error if the mapping is closed, has faulted, or is poisoned. Stores through the mapping may then be
    /// missing from the file.
    #[inline]
    pub(crate) fn check_usable(&self, operation: &'static str) -> Result<()> {
        self.check_open(operation)?;
        self.check_intact(operation)?;
        self.check_not_poisoned(operation)
    }

    /// Returns an error if a sync of the mapping has ever failed. The kernel reports a failure only once: the next sync
    /// succeeds, although data is missing from the file.
    pub(super) fn check_not_poisoned(&self, operation: &'static str) -> Result<()> {
        if !self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        let (expected, found) = ("bytes that can be made durable", "an earlier flush that failed");
        Err(Error::new(ErrorKind::Poisoned, operation, expected, found)
            .at(&self.path)
            .with_remedy("open the file again and check what it holds"))
    }

    /// Remembers that a sync has failed, and returns the error to report.
    pub(crate) fn poison(&self, error: io::Error) -> Error {
        self.poisoned.store(true, Ordering::Release);
        Error::io("flush", "bytes to reach the disk", error)
            .at(&self.path)
            .with_remedy("open the file again and check what it holds")
    }

    /// Runs a sync. Returns `Ok` only if this sync and all syncs of this mapping that ran at the same time have
    /// succeeded. If a page cannot be written, the kernel reports the error to only one of these syncs, and the others
    /// succeed.
    pub(super) fn synced(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<()> {
        self.synced_alone(sync)?;
        // Taking this lock waits until every sync that overlapped with this sync has ended. Each overlapping sync that
        // failed has already set `poisoned`.
        drop(sync::write(&self.syncs));
        self.check_not_poisoned("flush")
    }

    /// Runs a sync, and does not wait for other syncs. If the disk fails, this sync or another sync at the same time
    /// returns the error, and then every flush fails.
    pub(super) fn synced_alone(&self, sync: impl FnOnce() -> io::Result<()>) -> Result<()> {
        self.check_not_poisoned("flush")?;
        let _in_progress = sync::read(&self.syncs);
        sync().map_err(|error| self.poison(error))
    }
}
