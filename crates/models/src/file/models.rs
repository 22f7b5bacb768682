//! Models of the lock table of a process. The kernel has a lock for each entry of the table.

use super::{LockPolicy, RangeLock};
use crate::Model;
use crate::access::AccessMode;
use crate::error::ErrorKind;
use crate::explore::{at_once, explore};
use crate::sys::{self, FILE};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(crate) const MODELS: &[Model] = &[
    ("locks: two writers and a reader that overlap", overlapping),
    ("locks: a writer becomes a reader, a reader and a writer come", downgrade),
    ("locks: marked closed, while others ask", marked_closed),
];

/// Tries once to lock a range. The model has only one process, so a conflicting lock always belongs to this process.
pub(crate) fn acquire(bytes: Range<u64>, access: AccessMode) -> Option<RangeLock> {
    let policy = LockPolicy { timeout: Duration::ZERO, require_kernel: true };
    let file = Arc::new(sys::open_file());
    match RangeLock::acquire(&file, FILE, bytes, access, policy, Path::new("/model")) {
        Ok(lock) => Some(lock),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InUse);
            let error = error.to_string();
            assert!(
                !error.contains("another open file"),
                "the table is free, and the kernel's lock is not: {error}"
            );
            None
        }
    }
}

/// The threads that are currently reading or writing bytes of the file. The list is not part of the tested code: loom
/// cannot switch to another thread between the moment when a thread takes a lock and the call of `enter`.
#[derive(Clone, Default)]
struct Users(Arc<Mutex<Vec<(usize, Range<u64>, bool)>>>);

impl Users {
    fn enter(&self, user: usize, bytes: Range<u64>, writes: bool) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (other, others_bytes, other_writes) in &*users {
            let apart = others_bytes.end <= bytes.start || bytes.end <= others_bytes.start;
            assert!(
                apart || !(writes || *other_writes),
                "threads {user} and {other} share bytes with a writer"
            );
        }
        users.push((user, bytes, writes));
    }

    fn leave(&self, user: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, ..)| *other != user);
    }

    /// Tries once to lock a range. If that succeeds, uses the range and unlocks it.
    fn visit(&self, user: usize, bytes: Range<u64>, access: AccessMode) {
        if let Some(lock) = acquire(bytes.clone(), access) {
            self.enter(user, bytes, access == AccessMode::ReadWrite);
            loom::thread::yield_now();
            self.leave(user);
            drop(lock);
        }
    }
}

fn overlapping() -> usize {
    explore(|| {
        let users = Users::default();
        let (one, other) = (users.clone(), users.clone());
        at_once!(
            move || one.visit(1, 0..10, AccessMode::ReadWrite),
            move || other.visit(2, 5..15, AccessMode::ReadOnly);
            || users.visit(0, 8..20, AccessMode::ReadWrite)
        );
        assert_eq!(sys::locks_held(), 0);
        assert!(acquire(0..20, AccessMode::ReadWrite).is_some(), "the table is empty again");
    })
}

fn downgrade() -> usize {
    explore(|| {
        let users = Users::default();
        let (one, other) = (users.clone(), users.clone());
        let lock = acquire(0..10, AccessMode::ReadWrite).expect("nobody else is there");
        users.enter(0, 0..10, true);
        at_once!(
            move || one.visit(1, 5..15, AccessMode::ReadOnly),
            move || other.visit(2, 8..20, AccessMode::ReadWrite);
            || {
                users.leave(0);
                users.enter(0, 0..10, false);
                lock.downgrade().expect("the lock is held");
                users.leave(0);
                drop(lock);
            }
        );
        assert_eq!(sys::locks_held(), 0);
    })
}

fn marked_closed() -> usize {
    explore(|| {
        let users = Users::default();
        let (one, other) = (users.clone(), users.clone());
        let lock = acquire(0..10, AccessMode::ReadWrite).expect("nobody else is there");
        users.enter(0, 0..10, true);
        at_once!(
            move || one.visit(1, 5..15, AccessMode::ReadOnly),
            move || other.visit(2, 0..5, AccessMode::ReadWrite);
            || {
                lock.mark_closed();
                assert!(acquire(0..1, AccessMode::ReadOnly).is_none(), "a closed array keeps its lock");
                users.leave(0);
                drop(lock);
            }
        );
        assert_eq!(sys::locks_held(), 0);
    })
}
