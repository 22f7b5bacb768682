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

#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
mod linux;
#[cfg(all(target_os = "linux", not(ndarray_mmap_portable)))]
use linux as os;

#[cfg(not(all(target_os = "linux", not(ndarray_mmap_portable))))]
mod stub;
#[cfg(not(all(target_os = "linux", not(ndarray_mmap_portable))))]
use stub as os;

pub(crate) use os::{Scope, Watch, hold, install, watch};

use std::path::Path;
use std::sync::Arc;

/// Mapped memory, and what it maps.
#[derive(Clone, Debug)]
pub(crate) struct MappedRange {
    /// The address of the first byte; need not be the start of a page.
    pub(crate) start: usize,
    /// How many bytes are mapped from there on.
    pub(crate) len: usize,
    /// Where in the file the first byte is.
    pub(crate) file_offset: u64,
    /// Whether the memory may be written to, or only read.
    pub(crate) writable: bool,
    /// The file's name, for the error.
    pub(crate) path: Arc<Path>,
}

/// A fault that somebody has to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FaultReport {
    /// The file, unless its mapping went so long ago that nobody remembers.
    pub(crate) path: Option<Arc<Path>>,
    /// Where in the file the page that faulted starts.
    pub(crate) offset: u64,
}
