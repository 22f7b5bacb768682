//! Fault injection at the door to the operating system.
//!
//! Outside the crate's own unit tests [`door`] is an empty function. In them, [`fail_nth`] makes the N-th call of one
//! kind on the calling thread fail with a chosen error, which is how the crate proves that every such failure becomes an
//! [`Error`](crate::Error) and loses nothing.

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
    /// Making data durable: `fsync`, `fdatasync`, `msync`, `sync_file_range`.
    Sync,
    /// Publishing a name: `rename`, `link`.
    Publish,
    /// Removing a name.
    Remove,
    /// Making a directory durable.
    SyncDirectory,
}

#[cfg(not(test))]
#[inline(always)]
pub(crate) fn door(_call: Call) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use armed::door;
#[cfg(test)]
#[allow(unused_imports, reason = "the driver comes with the operations that it drives")]
pub(crate) use armed::{ALL, disarm, fail_nth};

#[cfg(test)]
mod armed {
    use super::Call;
    use std::cell::RefCell;
    use std::io;

    /// Every kind, for a driver that tries them in turn.
    pub(crate) const ALL: [Call; 9] = [
        Call::Open,
        Call::Read,
        Call::Write,
        Call::Allocate,
        Call::Map,
        Call::Sync,
        Call::Publish,
        Call::Remove,
        Call::SyncDirectory,
    ];

    struct Plan {
        call: Call,
        calls_left: usize,
        errno: i32,
    }

    thread_local! {
        static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
    }

    /// Lets the `nth` call (from 1) of this kind on this thread fail with `errno`, once.
    pub(crate) fn fail_nth(call: Call, nth: usize, errno: i32) {
        PLAN.with_borrow_mut(|plan| *plan = Some(Plan { call, calls_left: nth, errno }));
    }

    /// Takes the plan back; true if its call has failed meanwhile.
    pub(crate) fn disarm() -> bool {
        PLAN.with_borrow_mut(|plan| plan.take().is_none_or(|plan| plan.calls_left == 0))
    }

    pub(crate) fn door(call: Call) -> io::Result<()> {
        PLAN.with_borrow_mut(|plan| match plan {
            Some(plan) if plan.call == call && plan.calls_left > 0 => {
                plan.calls_left -= 1;
                match plan.calls_left {
                    0 => Err(io::Error::from_raw_os_error(plan.errno)),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        })
    }
}
