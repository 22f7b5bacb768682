//! Registers mappings, and reports their faults with the path of the file. The signal handler uses nothing of this
//! file.
#![allow(unsafe_code)]

use super::table::{FIRST_SLAB, LIVE_FAULTS, SLOTS_PER_SLAB, Slab, Slot, VACANT, offset_of};
use super::{FaultReport, MappedRange};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// The maximum number of ended watches whose fault and path are remembered, for guards that have not reported the fault
/// yet.
const MAX_REMEMBERED: usize = 64;

/// The number of watches that had faults and have ended.
static ENDED_WITH_FAULTS: AtomicUsize = AtomicUsize::new(0);

/// The part of each registration that the handler does not need. A thread changes the slots only while it holds the
/// lock of this value.
struct Registrations {
    slabs: Vec<&'static Slab>,
    /// The indices of the free slots. The lowest index is used first, so that few slabs are in use.
    free: BinaryHeap<Reverse<usize>>,
    /// For each slot, the path of the file that is mapped there.
    paths: Vec<Option<Arc<Path>>>,
    last_serial: usize,
    ended: VecDeque<EndedWatch>,
}

/// A watch that had faults and has ended.
struct EndedWatch {
    serial: usize,
    report: FaultReport,
}

static REGISTRATIONS: Mutex<Registrations> = Mutex::new(Registrations {
    slabs: Vec::new(),
    free: BinaryHeap::new(),
    paths: Vec::new(),
    last_serial: VACANT,
    ended: VecDeque::new(),
});

fn registrations() -> MutexGuard<'static, Registrations> {
    crate::sync::lock(&REGISTRATIONS)
}

impl Registrations {
    /// Adds a slab to the end of the chain that the handler walks.
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

    /// Returns the index of a free slot.
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

    /// Returns every slot that is in use, with the path of the mapped file.
    fn taken(&self) -> impl Iterator<Item = (&'static Slot, &Arc<Path>)> {
        let paths = self.paths.iter().enumerate();
        paths.filter_map(|(index, path)| path.as_ref().map(|path| (self.at(index).1, path)))
    }

    /// Remembers the fault of a watch that ends, because a guard that began earlier may not have reported the fault
    /// yet.
    fn remember_ended(&mut self, serial: usize, report: FaultReport) {
        self.ended.truncate(MAX_REMEMBERED - 1);
        self.ended.push_front(EndedWatch { serial, report });
    }
}

/// A watched mapping. Dropping it ends the watch.
pub(crate) struct Watch {
    slot: &'static Slot,
    index: usize,
    serial: usize,
}

/// Watches a mapping: the handler handles the mapping's faults, and the watch remembers them until the watch ends.
///
/// Faults are handled in threads that are in a guard, or in all threads after
/// [`handle_in_all_threads`](Watch::handle_in_all_threads).
///
/// # Safety
/// - Until the watch is dropped, the whole range, up to the end of its last page, is a mapping of a file. Only the
///   caller may map or unmap it, because the handler maps pages of zeros into it. Offset and protection are those of
///   the mapping.
/// - No thread accesses the range before this function returns, or after the watch is dropped.
pub(crate) unsafe fn watch(range: &MappedRange) -> Watch {
    let mut registrations = registrations();
    let index = registrations.take();
    let serial = registrations.last_serial.wrapping_add(1).max(1);
    registrations.last_serial = serial;
    registrations.paths[index] = Some(Arc::clone(&range.path));
    let (slab, slot) = registrations.at(index);
    slab.taken.fetch_add(1, Ordering::Relaxed);
    slot.publish(serial, range);
    Watch { slot, index, serial }
}

impl Watch {
    /// Handles faults in every thread from now on, in a guard or not.
    pub(crate) fn handle_in_all_threads(&self) {
        self.slot.handle_in_all_threads();
    }

    /// Maps the pages of zeros read-only from now on, because the mapping itself became read-only.
    pub(crate) fn set_read_only(&self) {
        self.slot.set_read_only();
    }

    /// Returns the offset in the file of the page that faulted first, if any page has faulted. The watch remembers this
    /// offset until the watch ends.
    ///
    /// To check a system call on the mapping, call this function after the system call, not before.
    pub(crate) fn first_fault(&self) -> Option<u64> {
        self.slot.first_fault()
    }

    /// Returns how many faults there were: how often a page was replaced, or could not be replaced because memory ran
    /// out.
    pub(crate) fn count(&self) -> usize {
        self.slot.faults()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut registrations = registrations();
        let (slab, slot) = registrations.at(self.index);
        let path = registrations.paths[self.index].take();
        let faults = slot.faults();
        if let Some(offset) = slot.first_fault() {
            registrations.remember_ended(self.serial, FaultReport { path, offset });
            // The order matters: a thread that no longer sees the live faults must see the ended watch.
            ENDED_WITH_FAULTS.fetch_add(1, Ordering::AcqRel);
            LIVE_FAULTS.fetch_sub(faults, Ordering::AcqRel);
        }
        slot.retire();
        slab.taken.fetch_sub(1, Ordering::Relaxed);
        registrations.free.push(Reverse(self.index));
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

/// Returns how many watches with faults have ended so far.
pub(super) fn ended_with_faults() -> usize {
    ENDED_WITH_FAULTS.load(Ordering::Acquire)
}

/// Returns the report for a fault of the calling thread.
pub(super) fn report_of(serial: usize, file_page: usize) -> FaultReport {
    let registrations = registrations();
    let live = registrations.taken().find(|(slot, _)| slot.serial() == serial);
    let ended = || registrations.ended.iter().find(|watch| watch.serial == serial)?.report.path.clone();
    FaultReport { path: live.map(|(_, path)| Arc::clone(path)).or_else(ended), offset: offset_of(file_page) }
}

/// Returns a fault of a mapping that is watched now, or of a watch that ended after [`ended_with_faults`] returned
/// `ended_before`.
pub(super) fn any_fault(ended_before: usize) -> Option<FaultReport> {
    if LIVE_FAULTS.load(Ordering::Acquire) == 0 && ended_with_faults() == ended_before {
        return None;
    }
    let registrations = registrations();
    let live = registrations.taken().find_map(|(slot, path)| Some((slot.first_fault()?, Arc::clone(path))));
    if let Some((offset, path)) = live {
        return Some(FaultReport { path: Some(path), offset });
    }
    let ended = || registrations.ended.front().map(|watch| watch.report.clone());
    (ended_with_faults() != ended_before).then(ended).flatten()
}
