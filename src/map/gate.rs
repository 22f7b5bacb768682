//! [`Gate`]: whether a mapping is open, and how many transfers are moving its bytes.
//!
//! Invariants:
//! 1. `closed` changes once, from false to true, and only while `leases` is locked.
//! 2. A lease is given out only while `leases` is locked and `closed` is false. So after [`Gate::close`] has set `closed`, the number
//!    of leases only falls.
//! 3. [`Gate::lease`] never waits for a lease or for a closing thread: it holds the lock for a few instructions. So a thread that
//!    holds a lease, and asks for one on another mapping, is never blocked, and every closing thread ends when the transfers that
//!    were in flight end.
//!
//! No code of the caller's runs under a lease.
//!
//! A child of `fork` has a copy of the gate, but not the threads that held leases: there, closing waits for nobody.

use crate::sync::{AtomicBool, Condvar, Mutex, Ordering};
use crate::sync::{lock, wait};

/// Whether something is open, and how many leases on it are out.
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

    /// Gives a lease back.
    pub(super) fn give_back(&self) {
        let mut leases = lock(&self.leases);
        *leases -= 1;
        if *leases == 0 {
            self.returned.notify_all();
        }
    }

    /// Closes the gate, and waits until every lease has been given back. Returns whether it was open.
    pub(super) fn close(&self) -> bool {
        let mut leases = lock(&self.leases);
        let was_open = !self.closed.swap(true, Ordering::AcqRel);
        while *leases > 0 && self.process == std::process::id() {
            leases = wait(&self.returned, leases);
        }
        was_open
    }
}
