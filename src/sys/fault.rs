//! The fault guard: turns a SIGBUS on a watched mapping into a remembered fault and a page of zeros.
//!
//! The kernel sends SIGBUS for an access to a mapping in three cases: a store into a hole when the filesystem is full,
//! an access beyond the end of a truncated file, and a read error of the disk. The handler looks up the address among
//! the [watched](watch()) mappings, remembers the fault with the mapping, maps a page of zeros over the page that
//! faulted, and returns. The processor then repeats the access. The handler passes every other SIGBUS on to the handler
//! that was installed before.
//!
//! System calls that access mapped memory raise no signal. For example, `write(2)` from a page that faults returns
//! `EFAULT`, and so does `MADV_POPULATE_READ` on such a page. The caller reports this error. An access after the end of
//! the file, but within the file's last page, does not fault: loads return zeros, and stores are lost without any
//! error.

pub(crate) use super::os::sigbus::{Scope, Watch, close_gate, install, is_first_in_this_thread, watch};
pub(crate) use super::types::{FaultReport, MappedRange};
