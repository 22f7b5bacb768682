//! Closing a mapping, once, whoever asks and however many at a time.

use super::{Mapping, REGISTRY, State};
use crate::access::AccessMode;
use crate::error::Result;
use crate::file::OnDrop;
use crate::sync::lock;
use std::sync::atomic::Ordering;

impl Mapping {
    /// Flushes, evicts as `on_drop` says, and gives the lock back, on behalf of an owner that goes: no borrow of its
    /// elements is alive. `Ok(false)` if it was closed before; if that failed, or a byte was lost since, an error as well.
    pub(crate) fn close_unborrowed(&self) -> Result<bool> {
        self.close(|_| Ok(()))
    }

    /// The same while borrows may be alive: the memory stays for them, but what they write reaches the file no more.
    pub(crate) fn close_borrowed(&self) -> Result<bool> {
        self.close(|state| self.detach(state))
    }

    /// Closes; the lock is given back only after `detach` has seen to it that nothing of ours can write any more. Who comes
    /// while another one closes waits for the end of it.
    fn close(&self, detach: impl FnOnce(&mut State) -> Result<()>) -> Result<bool> {
        let mut failure = lock(&self.closing);
        // Accesses that come later fail from here on.
        if self.closed.swap(true, Ordering::AcqRel) {
            return match &*failure {
                Some(error) => Err(error.repeated()),
                None => self.check_intact("close").map(|()| false),
            };
        }
        let finished = self.finish(self.access());
        let detached = {
            let mut state = self.state();
            detach(&mut state).map(|()| state.lock = None)
        };
        // Who does not find this mapping any more finds its bytes free.
        REGISTRY.remove(self.addresses(), self.id, self);
        let result = finished.and(detached);
        *failure = result.as_ref().err().map(|error| error.repeated());
        result.map(|()| true)
    }

    /// What a closing array owes its file.
    fn finish(&self, access: AccessMode) -> Result<()> {
        self.check_intact("close")?;
        if !self.named {
            return Ok(());
        }
        let everything = std::iter::once(self.file_bytes());
        match (access, self.on_drop) {
            (AccessMode::CopyOnWrite, _) => Ok(()),
            (_, OnDrop::KeepCached) => self.flush_as(access, everything),
            (_, OnDrop::Evict) => self.evict_as(access, everything),
        }
    }
}
