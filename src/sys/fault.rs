//! Faults on mapped files: a SIGBUS on a page of ours becomes a remembered fault and a page of zeros.
//!
//! A store into a hole of a full filesystem, an access past the end of a file that was cut short, and a medium that
//! fails are all SIGBUS to a mapping. The handler here looks the address up among the mappings that are
//! [watched](watch()), remembers the fault with the mapping, puts an anonymous page in the place of the one that faulted,
//! and lets the access run again. Every other SIGBUS goes on to the handler that was there before.
//!
//! What the kernel itself does with mapped memory raises no signal: `write(2)` from a page that faults, or
//! `MADV_POPULATE_READ` on it, is EFAULT, and the caller's to report. Nor is a fault raised by what happens *within*
//! the last page of a file: between its end and the page's, loads see zeros and stores are lost, in silence.

pub(crate) use super::os::sigbus::{Scope, Watch, close_gate, install, watch};
pub(crate) use super::types::{FaultReport, MappedRange};
