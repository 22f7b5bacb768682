//! The replacement for the fault guard on systems without one: installing the guard fails with `Unsupported`, no
//! mapping is watched, and no fault is reported.

use crate::sys::types::{FaultReport, MappedRange};
use std::io;

pub(crate) fn install() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns `false`: no handler is installed.
pub(crate) fn is_first_in_this_thread() -> bool {
    false
}

#[derive(Debug)]
pub(crate) struct Watch(());

/// Does nothing.
///
/// # Safety
/// There are no requirements. The function is unsafe because the function for Linux is unsafe.
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
}

/// Does nothing: without a fault guard no page is ever replaced.
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
