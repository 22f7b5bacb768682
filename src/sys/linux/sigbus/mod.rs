//! The guard on Linux.
//!
//! | file | what lives there |
//! | --- | --- |
//! | `watch.rs` | putting mappings under watch and naming their faults, under a lock that the handler never takes |
//! | `table.rs` | the mappings that are watched, as the handler looks them up without a lock |
//! | `pages.rs` | the state of each page of a mapping that has faulted: who may replace it, and how often it was |
//! | `thread.rs` | the state of a thread: is it in a guard, which fault did it meet first |
//! | `gate.rs` | keeps the replacing of pages and the dropping of pages apart |
//! | `handler.rs` | the handler: what it answers, and how |
//! | `previous.rs` | the handler that was there before, called as the kernel would have |

mod gate;
mod handler;
mod pages;
mod previous;
mod table;
#[cfg(test)]
mod tests;
mod thread;
mod watch;

pub(crate) use self::gate::hold;
pub(crate) use self::handler::install;
pub(crate) use self::thread::Scope;
pub(crate) use self::watch::{Watch, watch};

use crate::sys::types::{FaultReport, MappedRange};
