//! Replaces the mapped memory, and the disk to which a sync writes.

use crate::sync::atomic::AtomicBool;
use loom::cell::UnsafeCell;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of bytes in a mapping. Each thread that moves bytes stores to a different one.
const CELLS: usize = 2;

/// The bytes of a mapping. loom fails the model if two threads access the same byte at the same time and one of them
/// stores.
#[derive(Debug)]
pub(super) struct Memory {
    cells: [UnsafeCell<u8>; CELLS],
    /// Whether the disk has failed to write a page and no sync has reported this yet. Linux reports such a failure
    /// once.
    failure_to_report: AtomicBool,
    /// The number of syncs so far.
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

    /// Reads every byte. Meanwhile no other thread may store.
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
