//! Fault injection at the door to the operating system.
//!
//! Outside the crate's own unit tests the door is an empty function. In them, `fail_nth` makes the N-th call of one kind on
//! the calling thread fail with a chosen error, or move fewer bytes, which is how the crate proves that every such failure becomes an
//! [`Error`](crate::Error) and loses nothing.

use std::io;

/// The kinds of calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Opening or creating a file.
    Open,
    /// Reading bytes.
    Read,
    /// Writing bytes.
    Write,
    /// Setting the length of a file, or reserving its blocks.
    Allocate,
    /// Mapping a file.
    Map,
    /// Asking for, changing or giving up a lock.
    Lock,
    /// Making data durable: `fsync`, `fdatasync`, `msync`, `sync_file_range`.
    Sync,
    /// Publishing a name: `rename`, `link`.
    Publish,
    /// Removing a name.
    Remove,
    /// Making a directory durable.
    SyncDirectory,
}

/// Makes a call of the operating system through the door, again for as long as a signal interrupts it.
pub(crate) fn through<R>(call: Call, mut make: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    loop {
        match door(call).and_then(|()| make()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(not(test))]
#[inline(always)]
fn door(_call: Call) -> io::Result<()> {
    Ok(())
}

/// How many bytes of a transfer of `len` the door lets through at once: a test can make reads and writes short.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn let_through(_call: Call, len: usize) -> usize {
    len
}

#[cfg(test)]
use armed::door;
#[cfg(test)]
pub(crate) use armed::{ALL, Failure, disarm, fail_nth, let_through};

#[cfg(test)]
mod armed {
    use super::Call;
    use std::cell::Cell;
    use std::io;

    /// Every kind, for a driver that tries them in turn.
    pub(crate) const ALL: [Call; 10] = [
        Call::Open,
        Call::Read,
        Call::Write,
        Call::Allocate,
        Call::Map,
        Call::Lock,
        Call::Sync,
        Call::Publish,
        Call::Remove,
        Call::SyncDirectory,
    ];

    /// How a call fails.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Failure {
        /// With this error of the operating system.
        Errno(i32),
        /// By moving fewer bytes than it was asked to.
        Short,
    }

    impl Failure {
        /// The disk is full.
        pub(crate) const DISK_FULL: Self = Self::Errno(libc::ENOSPC);
        /// The medium fails.
        pub(crate) const MEDIUM: Self = Self::Errno(libc::EIO);
        /// A signal comes in between.
        pub(crate) const INTERRUPTED: Self = Self::Errno(libc::EINTR);
        /// The filesystem does not offer the operation.
        pub(crate) const UNSUPPORTED: Self = Self::Errno(libc::EOPNOTSUPP);
        /// There is no memory, or no room in the table of mappings.
        pub(crate) const MEMORY_FULL: Self = Self::Errno(libc::ENOMEM);
    }

    #[derive(Clone, Copy)]
    struct Plan {
        call: Call,
        failure: Failure,
        calls_left: usize,
    }

    thread_local! {
        static PLAN: Cell<Option<Plan>> = const { Cell::new(None) };
    }

    /// Lets the `nth` call (from 1) of this kind on this thread fail, once.
    pub(crate) fn fail_nth(call: Call, nth: usize, failure: Failure) {
        PLAN.set(Some(Plan { call, failure, calls_left: nth }));
    }

    /// Takes the plan back; true if its call has failed meanwhile.
    pub(crate) fn disarm() -> bool {
        PLAN.take().is_none_or(|plan| plan.calls_left == 0)
    }

    /// Counts a call; the failure, if it is this one's turn.
    fn count(call: Call, is_transfer: bool) -> Option<Failure> {
        let mut plan = PLAN.get()?;
        let counts =
            plan.call == call && (plan.failure == Failure::Short) == is_transfer && plan.calls_left > 0;
        if !counts {
            return None;
        }
        plan.calls_left -= 1;
        PLAN.set(Some(plan));
        (plan.calls_left == 0).then_some(plan.failure)
    }

    pub(super) fn door(call: Call) -> io::Result<()> {
        match count(call, false) {
            Some(Failure::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }

    pub(crate) fn let_through(call: Call, len: usize) -> usize {
        if count(call, true).is_some() { len.div_ceil(2) } else { len }
    }
}
