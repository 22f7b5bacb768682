//! Where there is no fault guard: installing it is `Unsupported`, nothing is watched, no fault is ever seen.

use crate::sys::types::{FaultReport, MappedRange};
use std::io;
use std::ops::Range;

pub(crate) fn install() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[derive(Debug)]
pub(crate) struct Watch(());

/// # Safety
/// None to keep here; the function is unsafe where there is a guard.
#[allow(unsafe_code, reason = "the signature is that of the real one")]
pub(crate) unsafe fn watch(_range: &MappedRange) -> Watch {
    Watch(())
}

impl Watch {
    pub(crate) fn handle_in_all_threads(&self) {}

    pub(crate) fn set_read_only(&self) {}

    pub(crate) fn first_fault(&self) -> Option<u64> {
        None
    }

    pub(crate) fn count(&self) -> usize {
        0
    }
}

/// Nothing is replaced, so there is nothing to hold up.
pub(crate) fn close_gate() {}

#[derive(Debug)]
pub(crate) struct Scope(());

impl Scope {
    pub(crate) fn enter() -> Self {
        Self(())
    }

    pub(crate) fn report(&self) -> Option<FaultReport> {
        None
    }
}
