//! The parts of the fault guard that a signal handler and other threads share.

#[path = "../../../../src/sys/linux/sigbus/gate.rs"]
mod gate;
mod models;
#[path = "../../../../src/sys/linux/sigbus/pages.rs"]
mod pages;
#[path = "../../../../src/sys/linux/sigbus/table.rs"]
mod table;

pub(crate) use self::models::MODELS;

use crate::sys::MappedRange;
