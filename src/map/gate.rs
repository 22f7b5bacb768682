//! [`Gate`]: whether a mapping is open, and how many transfers use the mapping.
//!
//! Invariants:
//! 1. `closed` changes once, from false to true, and only while `leases` is locked.
//! 2. A new lease is counted only while `leases` is locked and `closed` is false. So after [`Gate::close`] has set
//!    `closed`, the number of leases only falls.
//! 3. [`Gate::lease`] never waits for a lease or for a closing thread, and holds the lock only for a few instructions.
//!    So a thread that has a lease on one mapping, and asks for a lease on another one, is never blocked. Therefore
//!    every closing thread continues when the transfers in flight end.
//!
//! While a thread has a lease, it runs no code of the crate's user.
//!
//! A child of `fork` has a copy of the gate, but not the threads that had leases. Therefore the child can close the
//! gate without waiting for a lease.

use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Condvar, Mutex, lock, wait};

/// Whether a mapping is open, and how many leases on it exist.
#[derive(Debug)]
pub(super) struct Gate {
    closed: AtomicBool,
    leases: Mutex<usize>,
    returned: Condvar,
    /// The process that made the gate.
    process: u32,
}

impl Gate {
    pub(super) fn open() -> Self {
        Self {
            closed: AtomicBool::new(false),
            leases: Mutex::new(0),
            returned: Condvar::new(),
            process: std::process::id(),
        }
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes a lease. Returns false if the gate is closed.
    pub(super) fn lease(&self) -> bool {
        let mut leases = lock(&self.leases);
        let is_open = !self.is_closed();
        *leases += usize::from(is_open);
        is_open
    }

    /// Returns a lease.
    pub(super) fn give_back(&self) {
        let mut leases = lock(&self.leases);
        *leases -= 1;
        if *leases == 0 {
            self.returned.notify_all();
        }
    }

    /// Closes the gate, and waits until every lease has been returned. Returns whether the gate was open.
    pub(super) fn close(&self) -> bool {
        let mut leases = lock(&self.leases);
        let was_open = !self.closed.swap(true, Ordering::AcqRel);
        while *leases > 0 && self.process == std::process::id() {
            leases = wait(&self.returned, leases);
        }
        was_open
    }
}
