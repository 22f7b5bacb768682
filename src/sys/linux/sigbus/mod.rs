//! The fault guard on Linux.
//!
//! | file | contents |
//! | --- | --- |
//! | `watch.rs` | registers mappings and names their faults, under a lock that the handler never takes |
//! | `table.rs` | the registered mappings, which the handler looks up without a lock |
//! | `pages.rs` | the state of each page of a mapping that has faulted: whether a thread is replacing the page, and how often it was replaced |
//! | `thread.rs` | the state of a thread: how many guards it is in, and its first fault |
//! | `gate.rs` | keeps pages from being replaced and dropped at the same time |
//! | `handler.rs` | the signal handler: which faults it handles, and how |
//! | `previous.rs` | the handler that was installed before, which our handler calls as the kernel would have called it |

mod gate;
mod handler;
mod pages;
mod previous;
mod table;
#[cfg(test)]
mod tests;
mod thread;
mod watch;

pub(crate) use self::gate::close_gate;
pub(crate) use self::handler::{install, is_first_in_this_thread};
pub(crate) use self::thread::Scope;
pub(crate) use self::watch::{Watch, watch};

use crate::sys::types::{FaultReport, MappedRange};
