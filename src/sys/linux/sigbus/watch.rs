//! Putting mappings under watch, and naming their faults: all that the handler has no part in.
#![allow(unsafe_code)]

use super::table::{FIRST_SLAB, LIVE_FAULTS, SLOTS_PER_SLAB, Slab, Slot, VACANT, offset_of};
use super::{FaultReport, MappedRange};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// How many faults of mappings that have gone are remembered by name, for the guards that are still to report them.
const DEPARTED_REMEMBERED: usize = 64;

/// How many mappings with faults have gone.
static DEPARTURES: AtomicUsize = AtomicUsize::new(0);

/// What the handler need not know, and the right to change the slots.
struct Books {
    slabs: Vec<&'static Slab>,
    /// Indices of slots that are free, the lowest first, so that few slabs are in use.
    free: BinaryHeap<Reverse<usize>>,
    /// The file mapped by each slot's registration.
    paths: Vec<Option<Arc<Path>>>,
    last_serial: usize,
    departed: VecDeque<Departed>,
}

/// A mapping that had faults and has gone.
struct Departed {
    serial: usize,
    report: FaultReport,
}

static BOOKS: Mutex<Books> = Mutex::new(Books {
    slabs: Vec::new(),
    free: BinaryHeap::new(),
    paths: Vec::new(),
    last_serial: VACANT,
    departed: VecDeque::new(),
});

fn books() -> MutexGuard<'static, Books> {
    crate::sync::lock(&BOOKS)
}

impl Books {
    /// Adds slots, at the end of the chain that the handler walks.
    fn grow(&mut self) {
        let slab = match self.slabs.last() {
            None => &FIRST_SLAB,
            Some(last) => last.next_or_new(),
        };
        let first = self.slabs.len() * SLOTS_PER_SLAB;
        self.slabs.push(slab);
        self.free.extend((first..first + SLOTS_PER_SLAB).map(Reverse));
        self.paths.resize(first + SLOTS_PER_SLAB, None);
    }

    /// A free slot's index.
    fn take(&mut self) -> usize {
        loop {
            if let Some(Reverse(index)) = self.free.pop() {
                return index;
            }
            self.grow();
        }
    }

    fn at(&self, index: usize) -> (&'static Slab, &'static Slot) {
        let slab = self.slabs[index / SLOTS_PER_SLAB];
        (slab, &slab.slots[index % SLOTS_PER_SLAB])
    }

    /// Every slot that is taken, with the file that it maps.
    fn taken(&self) -> impl Iterator<Item = (&'static Slot, &Arc<Path>)> {
        let paths = self.paths.iter().enumerate();
        paths.filter_map(|(index, path)| path.as_ref().map(|path| (self.at(index).1, path)))
    }

    /// Remembers the fault of a mapping that goes: a guard that began before has yet to report it.
    fn remember_departed(&mut self, serial: usize, report: FaultReport) {
        self.departed.truncate(DEPARTED_REMEMBERED - 1);
        self.departed.push_front(Departed { serial, report });
    }
}

/// A mapping under watch; dropping it ends the watch.
pub(crate) struct Watch {
    slot: &'static Slot,
    index: usize,
    serial: usize,
}

/// Watches a mapping: its faults are answered in threads that are in a guard, or in all once
/// [`answer_always`](Watch::answer_always) was called; and remembered until the watch ends.
///
/// # Safety
/// - The range is mapped from a file, to the end of its last page, by the caller alone, until the watch is dropped:
///   the handler puts pages of zeros into it. Offset and protection are those of the mapping.
/// - No part of it was handed out before: nobody faults on it before this returns, nor after the watch is dropped.
pub(crate) unsafe fn watch(range: &MappedRange) -> Watch {
    let mut books = books();
    let index = books.take();
    let serial = books.last_serial.wrapping_add(1).max(1);
    books.last_serial = serial;
    books.paths[index] = Some(Arc::clone(&range.path));
    let (slab, slot) = books.at(index);
    slab.taken.fetch_add(1, Ordering::Relaxed);
    slot.publish(serial, range);
    Watch { slot, index, serial }
}

impl Watch {
    /// From now on faults are answered in every thread, in a guard or not.
    pub(crate) fn answer_always(&self) {
        self.slot.answer_always();
    }

    /// From now on pages of zeros are mapped for reading alone, as the mapping itself is.
    pub(crate) fn set_read_only(&self) {
        self.slot.set_read_only();
    }

    /// Where in the file the page starts that faulted first, if any has: remembered for ever.
    ///
    /// Ask after the system call whose success is to be reported, not before.
    pub(crate) fn first_fault(&self) -> Option<u64> {
        self.slot.first_fault()
    }

    /// How many times a page was replaced, or could not be for want of memory.
    pub(crate) fn count(&self) -> usize {
        self.slot.faults()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut books = books();
        let (slab, slot) = books.at(self.index);
        let path = books.paths[self.index].take();
        let faults = slot.faults();
        if let Some(offset) = slot.first_fault() {
            books.remember_departed(self.serial, FaultReport { path, offset });
            // In this order: who sees the live faults gone sees the departure.
            DEPARTURES.fetch_add(1, Ordering::AcqRel);
            LIVE_FAULTS.fetch_sub(faults, Ordering::AcqRel);
        }
        slot.retire();
        slab.taken.fetch_sub(1, Ordering::Relaxed);
        books.free.push(Reverse(self.index));
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("first_fault", &self.first_fault())
            .field("count", &self.count())
            .finish()
    }
}

/// How many mappings with faults have gone so far.
pub(super) fn departures() -> usize {
    DEPARTURES.load(Ordering::Acquire)
}

/// Names a fault that the calling thread has met.
pub(super) fn report_of(serial: usize, file_page: usize) -> FaultReport {
    let books = books();
    let live = books.taken().find(|(slot, _)| slot.serial() == serial);
    let gone = || books.departed.iter().find(|departed| departed.serial == serial)?.report.path.clone();
    FaultReport { path: live.map(|(_, path)| Arc::clone(path)).or_else(gone), offset: offset_of(file_page) }
}

/// Any fault of a mapping that is there now, or that went after the first `departures_before`.
pub(super) fn any_fault(departures_before: usize) -> Option<FaultReport> {
    if LIVE_FAULTS.load(Ordering::Acquire) == 0 && departures() == departures_before {
        return None;
    }
    let books = books();
    let live = books.taken().find_map(|(slot, path)| Some((slot.first_fault()?, Arc::clone(path))));
    if let Some((offset, path)) = live {
        return Some(FaultReport { path: Some(path), offset });
    }
    let gone = || books.departed.front().map(|departed| departed.report.clone());
    (departures() != departures_before).then(gone).flatten()
}
