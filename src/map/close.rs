//! The end of a mapping: closing by path, closing by the owner, and giving up the right to write.
//!
//! Closing by path can happen while borrows of the elements are alive, so it keeps the memory, the right to write and the lock. The
//! owner of the array can only be dropped or closed when no borrow is alive: then the lock is released.

use super::Mapping;
use super::evict::Patience;
use crate::access::AccessMode;
use crate::error::{Error, Result};
use crate::file::OnDrop;
use crate::sync::lock;

impl Mapping {
    /// Closes the mapping while borrows may be alive: waits for the transfer in flight, flushes, and evicts as `on_drop` says. Every
    /// later access through the owner, transfer and flush is `Closed`. The lock stays. Returns false if it was closed before, and an
    /// error again if that failed.
    pub(crate) fn close_by_path(&self) -> Result<bool> {
        // A second caller waits for the first, and gets the same result.
        let mut failure = lock(&self.close_failure);
        if !self.gate.close() {
            return self.result_of_earlier(&failure).map(|()| false);
        }
        if let Some(held) = &*lock(&self.lock) {
            held.mark_closed();
        }
        let result = self.finish();
        *failure = result.as_ref().err().map(Error::repeated);
        result.map(|()| true)
    }

    /// Closes the mapping for its owner, when no borrow of the elements is alive. Stores that were made through borrows since the
    /// array was closed by its path are flushed as well. Releases the lock.
    pub(crate) fn close_by_owner(&self) -> Result<()> {
        let mut failure = lock(&self.close_failure);
        self.gate.close();
        let result = self.result_of_earlier(&failure).and_then(|()| self.finish());
        *failure = result.as_ref().err().map(Error::repeated);
        *lock(&self.lock) = None;
        result
    }

    /// Releases the lock of a mapping that was closed by its path, although its owner is alive.
    ///
    /// # Safety
    /// No borrow of the array's elements is used any more, in any thread, and no copy of such a borrow will be.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn unlock(&self) {
        *lock(&self.lock) = None;
    }

    fn result_of_earlier(&self, failure: &Option<Error>) -> Result<()> {
        match failure {
            Some(error) => Err(error.repeated()),
            None => self.check_intact("close"),
        }
    }

    /// Flushes and evicts, as `on_drop` says.
    fn finish(&self) -> Result<()> {
        self.check_intact("close")?;
        if !self.named || self.access() == AccessMode::CopyOnWrite {
            return Ok(());
        }
        let everything = || std::iter::once(self.file_bytes());
        self.make_durable(everything())?;
        match self.on_drop {
            OnDrop::KeepCached => Ok(()),
            OnDrop::Evict => self.evict(everything(), Patience::Short),
        }
    }

    /// Flushes, gives up the right to write, and lets other readers in. The caller owns the array by value, so no mutable borrow of its
    /// elements is alive.
    #[allow(unsafe_code)]
    pub(crate) fn make_read_only(&self) -> Result<()> {
        self.flush()?;
        if let Some(memory) = &self.memory {
            // SAFETY: no `&mut` into the memory exists: the array is owned by value, and is a read-only one from here on.
            unsafe { memory.protect_read_only() }
                .map_err(|error| Error::io("into_read_only", "to protect the pages", error).at(&self.path))?;
        }
        if let Some(watch) = &self.watch {
            watch.set_read_only();
        }
        if let Some(held) = &*lock(&self.lock) {
            held.downgrade().map_err(|error| error.at(&self.path))?;
        }
        *lock(&self.access) = AccessMode::ReadOnly;
        Ok(())
    }
}
