//! Closing a mapping through its path or through its owner, and making a mapping read-only.
//!
//! [`close_path`](crate::close_path) can close a mapping while borrows of the elements are alive. So `close_path` keeps
//! the memory mapped, and changes neither the protection nor the lock. The owner of the array can be dropped or closed
//! only when no borrow is alive. In that case the lock is released.

use super::Mapping;
use super::evict::Patience;
use crate::access::AccessMode;
use crate::error::{Error, Result};
use crate::file::{FileName, OnDrop};
use crate::sync::lock;

impl Mapping {
    /// Closes the mapping while borrows may be alive. Waits for the transfers in flight, flushes, and evicts if
    /// `on_drop` asks for it. Afterwards every access through the owner, every transfer and every flush fails with
    /// `Closed`. The lock stays. A file whose name is pending never gets its name, because it may be incomplete.
    ///
    /// If an earlier call has closed the mapping, returns the error of that call, or `false` if that call succeeded.
    /// Also returns an error if the mapping has faulted after that call.
    pub(crate) fn close_by_path(&self) -> Result<bool> {
        // A second caller waits for the first, and gets the same result.
        let mut failure = lock(&self.close_failure);
        if !self.gate.close() {
            result_of_earlier(&failure)?;
            return self.check_intact("close").map(|()| false);
        }
        if let Some(held) = &*lock(&self.lock) {
            held.mark_closed();
        }
        self.settle_name(FileName::Never);
        let result = self.finish();
        *failure = result.as_ref().err().map(Error::repeated);
        result.map(|()| true)
    }

    /// Closes the mapping for its owner, when no borrow of the elements is alive. If the array was closed by its path
    /// before, this call also flushes the stores that borrows have made since then. Releases the lock. Afterwards,
    /// returns an error if the file has lost its name.
    pub(crate) fn close_by_owner(&self) -> Result<()> {
        let mut failure = lock(&self.close_failure);
        self.gate.close();
        let result = result_of_earlier(&failure).and_then(|()| self.finish());
        let result = result.and_then(|()| self.check_name("close"));
        *failure = result.as_ref().err().map(Error::repeated);
        *lock(&self.lock) = None;
        result
    }

    /// Releases the lock of a mapping that was closed by its path, although the mapping's owner is alive. An open
    /// mapping keeps its lock: another thread can open the file after the other mappings were closed.
    ///
    /// # Safety
    /// No thread uses a borrow of the array's elements, or a copy of such a borrow, now or later.
    #[allow(unsafe_code)]
    pub(crate) unsafe fn unlock(&self) {
        if self.is_closed() {
            *lock(&self.lock) = None;
        }
    }

    /// Flushes, and evicts if `on_drop` asks for it. Fails if the mapping has faulted.
    fn finish(&self) -> Result<()> {
        self.check_intact("close")?;
        if self.name() == FileName::Never || self.access() == AccessMode::CopyOnWrite {
            return Ok(());
        }
        let everything = || std::iter::once(self.file_bytes());
        self.make_durable(everything())?;
        match self.on_drop {
            OnDrop::KeepCached => self.settle(),
            OnDrop::Evict => self.evict(everything(), Patience::Short),
        }
    }

    /// Flushes, makes the mapping read-only, and changes the lock so that other readers can open the file. The caller
    /// owns the array by value, so no mutable borrow of its elements is alive.
    #[allow(unsafe_code)]
    pub(crate) fn make_read_only(&self) -> Result<()> {
        self.flush()?;
        if let Some(memory) = &self.memory {
            // SAFETY: no `&mut` into the memory exists, because the caller owns the array by value. The array is
            // read-only from here on, so no `&mut` will be created.
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

fn result_of_earlier(failure: &Option<Error>) -> Result<()> {
    failure.as_ref().map_or(Ok(()), |error| Err(error.repeated()))
}
