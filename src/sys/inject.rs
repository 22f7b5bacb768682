//! Fault injection and recording: unit tests can make system calls fail, and can record what the calls change.
//!
//! Outside unit tests, the functions of this file only make the call. In unit tests, `fail_nth` makes the N-th call of
//! one kind on the calling thread fail with a chosen error, or transfer fewer bytes. The tests use `fail_nth` to show
//! that every such failure becomes an [`Error`](crate::Error) and that no data is lost. `record.rs` records the changes
//! and the syncs of the calling thread, for the tests of all states of a disk after a power cut.

use std::fs::File;
use std::io;

/// The kinds of system calls that a unit test can make fail.
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
    /// Requesting, changing or releasing a lock.
    Lock,
    /// Making data durable: `fsync`, `fdatasync`, `msync`, `sync_file_range`.
    Sync,
    /// Publishing a name: `rename`, `link`, `linkat`.
    Publish,
    /// Removing a name.
    Remove,
    /// Making a directory durable.
    SyncDirectory,
}

/// What a sync makes durable.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "only the recorder reads the fields"))]
pub(crate) enum Durable<'a> {
    /// The data and the length of a file.
    File(&'a File),
    /// The bytes of a file that are mapped at an address, and the length of the file. The second field is the number of
    /// bytes.
    Memory(usize, usize),
    /// The names in a directory. With `None`, all data and all names on a filesystem.
    Names(Option<&'a File>),
}

/// Makes a system call, and repeats the call as long as signals interrupt it. A unit test can make the call fail.
pub(crate) fn through<R>(call: Call, mut make: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    loop {
        match injected_failure(call).and_then(|()| make()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => {
                made(call);
                return result;
            }
        }
    }
}

/// Makes a system call that makes something durable, as [`through`] does. A unit test can record it.
#[cfg_attr(test, track_caller)]
pub(crate) fn sync(durable: Durable<'_>, make: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let is_directory = matches!(durable, Durable::Names(_));
    through(if is_directory { Call::SyncDirectory } else { Call::Sync }, make)?;
    synced(durable);
    Ok(())
}

#[cfg(not(test))]
#[inline(always)]
fn injected_failure(_call: Call) -> io::Result<()> {
    Ok(())
}

#[cfg(not(test))]
#[inline(always)]
fn made(_call: Call) {}

#[cfg(not(test))]
#[inline(always)]
fn synced(_durable: Durable<'_>) {}

/// Returns how many of `len` bytes the next transfer may move. A unit test can reduce this number.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn let_through(_call: Call, len: usize) -> usize {
    len
}

#[cfg(test)]
pub(crate) use armed::{ALL, Failure, disarm, fail_nth, let_through};
#[cfg(test)]
use armed::{injected_failure, made, synced};

#[cfg(test)]
mod armed {
    use super::super::record;
    use super::{Call, Durable};
    use std::cell::Cell;
    use std::io;
    use std::panic::Location;

    /// All kinds of calls. Tests make each kind fail in turn.
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
        /// The call returns this error number.
        Errno(i32),
        /// The call transfers fewer bytes than it could.
        Short,
    }

    impl Failure {
        /// The disk is full.
        pub(crate) const DISK_FULL: Self = Self::Errno(libc::ENOSPC);
        /// The medium fails.
        pub(crate) const MEDIUM: Self = Self::Errno(libc::EIO);
        /// A signal interrupts the call.
        pub(crate) const INTERRUPTED: Self = Self::Errno(libc::EINTR);
        /// The filesystem does not offer the operation.
        pub(crate) const UNSUPPORTED: Self = Self::Errno(libc::EOPNOTSUPP);
        /// Memory is exhausted, or the kernel's table of mappings is full.
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

    /// Makes the `nth` call of a kind on this thread fail, once. The count starts at 1.
    pub(crate) fn fail_nth(call: Call, nth: usize, failure: Failure) {
        PLAN.set(Some(Plan { call, failure, calls_left: nth }));
    }

    /// Cancels the planned failure. Returns `true` if the planned failure has happened, or if no failure was planned.
    pub(crate) fn disarm() -> bool {
        PLAN.take().is_none_or(|plan| plan.calls_left == 0)
    }

    /// Counts a call. Returns the failure that was planned for this call, if there is one.
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

    /// Records what a call has changed.
    pub(super) fn made(call: Call) {
        if !matches!(call, Call::Read | Call::Lock | Call::Map | Call::Sync | Call::SyncDirectory) {
            record::observe();
        }
    }

    #[track_caller]
    pub(super) fn synced(durable: Durable<'_>) {
        record::synced(durable, Location::caller());
    }

    pub(super) fn injected_failure(call: Call) -> io::Result<()> {
        if matches!(call, Call::Sync | Call::SyncDirectory) {
            record::observe();
        }
        match count(call, false) {
            Some(Failure::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }

    pub(crate) fn let_through(call: Call, len: usize) -> usize {
        if count(call, true).is_some() { len.div_ceil(2) } else { len }
    }
}
