//! Mapped memory, and the disk below it.

use crate::sync::atomic::AtomicBool;
use loom::cell::UnsafeCell;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many threads may move bytes.
const CELLS: usize = 2;

/// The bytes of a mapping. loom fails the model if two threads access one at the same time, and one of them stores.
#[derive(Debug)]
pub(super) struct Memory {
    cells: [UnsafeCell<u8>; CELLS],
    /// The disk could not write a page, and no sync has reported that. Linux reports it once.
    failure_to_report: AtomicBool,
    /// How many syncs there were.
    syncs: AtomicUsize,
}

// SAFETY: loom itself reports a data race on the cells.
unsafe impl Sync for Memory {}

impl Memory {
    pub(super) fn new(fails: bool) -> Self {
        Self {
            cells: std::array::from_fn(|_| UnsafeCell::new(0)),
            failure_to_report: AtomicBool::new(fails),
            syncs: AtomicUsize::new(0),
        }
    }

    /// Stores to one byte.
    pub(super) fn store(&self, cell: usize) {
        // SAFETY: loom reports a data race, so no other access to the byte is in progress.
        self.cells[cell].with_mut(|byte| unsafe { *byte += 1 });
    }

    /// Reads every byte: nobody may store meanwhile.
    pub(super) fn read_all(&self) {
        // SAFETY: loom reports a data race, so no store to the byte is in progress.
        self.cells.iter().for_each(|cell| _ = cell.with(|byte| unsafe { *byte }));
    }

    /// Writes every byte to the disk.
    pub(super) fn sync(&self, _: Range<usize>) -> io::Result<()> {
        self.read_all();
        self.syncs.fetch_add(1, Ordering::Relaxed);
        match self.failure_to_report.swap(false, Ordering::Relaxed) {
            true => Err(io::Error::other("the disk fails")),
            false => Ok(()),
        }
    }

    pub(super) fn syncs(&self) -> usize {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(super) unsafe fn protect_read_only(&self) -> io::Result<()> {
        Ok(())
    }
}
