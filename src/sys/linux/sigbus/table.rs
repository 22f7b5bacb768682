//! The table of watched mappings, which the signal handler reads without a lock.
//!
//! `watch.rs` adds and removes mappings under a lock that the handler never takes. The handler walks slots of atomics
//! that are never freed. The handler finds only valid registrations, for these reasons:
//!
//! 1. Each slot is a sequence lock whose counter is the unique serial number of the registration. A writer stores the
//!    serial number zero, then executes a fence, then stores the fields, then the new serial number. A reader that
//!    loads the same serial number before and after the fields has read a consistent registration. If the numbers
//!    differ, the reader skips the slot and does not retry. By reason 2, the reader does not look for this slot.
//! 2. The slot that a faulting thread looks for does not change during the lookup. The thread is in the middle of an
//!    access to the mapping, so the thread has a borrow of the array or of a part of the array. The owner's
//!    [`Watch`](super::Watch) outlives that borrow.
//! 3. No registration remains for addresses that were unmapped: [`watch`](super::watch()) requires that the watch is
//!    dropped before the mapping.
#![allow(unsafe_code)]

use super::MappedRange;
use super::pages::PageStates;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
use crate::sys::page_bytes;
use std::iter;
use std::ptr;
use std::sync::OnceLock;

/// The number of slots that are added at a time.
pub(super) const SLOTS_PER_SLAB: usize = 512;
/// The serial number of a slot without a registration.
pub(super) const VACANT: usize = 0;

/// A bit of [`Slot::mode`]: the mapping is writable.
const WRITABLE: usize = 1;
/// A bit of [`Slot::mode`]: faults are handled in every thread, not only in threads that are in a guard.
const IN_ALL_THREADS: usize = 2;

/// A slot of the table: the part of one registration that the handler reads.
///
/// Invariants:
/// 1. `start` and `end` are multiples of the page size, and `file_page` is the page of the file at `start`;
/// 2. the fields `start`, `end` and `file_page` change only while the slot is not in use (`serial` is `VACANT`);
/// 3. `faults` and `first` belong to the registration `serial`: they are zero when the registration begins.
pub(super) struct Slot {
    serial: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    file_page: AtomicUsize,
    mode: AtomicUsize,
    /// The index in the file of the page that faulted first, plus one. Zero if no page has faulted.
    first: AtomicUsize,
    /// The number of faults for which the handler has replaced a page, or tried to.
    faults: AtomicUsize,
    pub(super) pages: PageStates,
}

/// A block of slots that are allocated together and never freed.
pub(super) struct Slab {
    pub(super) slots: [Slot; SLOTS_PER_SLAB],
    /// The number of slots in use. The handler skips a slab in which no slot is in use.
    pub(super) taken: AtomicUsize,
    next: OnceLock<Box<Slab>>,
}

pub(super) static FIRST_SLAB: Slab = Slab::new();

/// A ring buffer of the slots whose mappings have faulted last. The next fault is likely to be in one of these slots,
/// too.
static RECENT: [AtomicPtr<Slot>; 16] = [const { AtomicPtr::new(ptr::null_mut()) }; 16];
/// The index at which the next slot is stored in the ring buffer, modulo the length of the buffer.
static NEXT_RECENT: AtomicUsize = AtomicUsize::new(0);

/// The number of faults of all mappings that are watched now: the sum of [`Slot::faults`] over the slots in use.
pub(super) static LIVE_FAULTS: AtomicUsize = AtomicUsize::new(0);

/// Returns the offset in the file at which a page starts.
pub(super) fn offset_of(file_page: usize) -> u64 {
    file_page as u64 * page_bytes() as u64
}

impl Slot {
    pub(super) const fn new() -> Self {
        Self {
            serial: AtomicUsize::new(VACANT),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            file_page: AtomicUsize::new(0),
            mode: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            faults: AtomicUsize::new(0),
            pages: PageStates::none(),
        }
    }

    /// Begins a registration in a vacant slot. The caller holds the lock of the registrations.
    pub(super) fn publish(&self, serial: usize, range: &MappedRange) {
        let page = page_bytes();
        let lead_bytes = range.start % page;
        let file_page = (range.file_offset - lead_bytes as u64) / page as u64;
        let mode = if range.writable { WRITABLE } else { 0 };
        // This fence pairs with the fence in `find`. If a reader loads a field that is stored below, its second load of
        // the serial number returns `VACANT` or `serial`.
        fence(Ordering::Release);
        self.start.store(range.start - lead_bytes, Ordering::Relaxed);
        self.end.store((range.start + range.len).next_multiple_of(page), Ordering::Relaxed);
        // The page number fits `usize`: the kernel counts the pages of a file in an `unsigned long`, too.
        self.file_page.store(file_page as usize, Ordering::Relaxed);
        self.mode.store(mode, Ordering::Relaxed);
        self.first.store(0, Ordering::Relaxed);
        self.faults.store(0, Ordering::Relaxed);
        self.serial.store(serial, Ordering::Release);
    }

    /// Ends the registration. The caller holds the lock of the registrations, and no thread accesses the mapping any
    /// more.
    pub(super) fn retire(&self) {
        let page_count =
            (self.end.load(Ordering::Relaxed) - self.start.load(Ordering::Relaxed)) / page_bytes();
        self.serial.store(VACANT, Ordering::Release);
        self.pages.release(page_count);
    }

    /// Returns the registration in this slot if its mapping contains `address`. Async-signal-safe and wait-free.
    pub(super) fn find(&'static self, address: usize) -> Option<Found> {
        let serial = self.serial.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        let end = self.end.load(Ordering::Relaxed);
        let file_page = self.file_page.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let unchanged = self.serial.load(Ordering::Relaxed) == serial;
        let found = unchanged && serial != VACANT && (start..end).contains(&address);
        found.then_some(Found { slot: self, serial, start, end, file_page })
    }

    /// Returns the serial number of the registration in this slot.
    pub(super) fn serial(&self) -> usize {
        self.serial.load(Ordering::Relaxed)
    }

    /// Returns how many faults the mapping had.
    pub(super) fn faults(&self) -> usize {
        self.faults.load(Ordering::Acquire)
    }

    pub(super) fn handle_in_all_threads(&self) {
        self.mode.fetch_or(IN_ALL_THREADS, Ordering::Relaxed);
    }

    pub(super) fn set_read_only(&self) {
        self.mode.fetch_and(!WRITABLE, Ordering::Relaxed);
    }

    /// Returns the offset in the file of the page that faulted first.
    pub(super) fn first_fault(&self) -> Option<u64> {
        self.first.load(Ordering::Acquire).checked_sub(1).map(offset_of)
    }
}

impl Slab {
    const fn new() -> Self {
        Self {
            slots: [const { Slot::new() }; SLOTS_PER_SLAB],
            taken: AtomicUsize::new(0),
            next: OnceLock::new(),
        }
    }

    /// Returns the slab after this one, and allocates it if there is none.
    pub(super) fn next_or_new(&'static self) -> &'static Self {
        self.next.get_or_init(|| Box::new(Self::new()))
    }
}

/// A registration that a lookup has found.
pub(super) struct Found {
    pub(super) slot: &'static Slot,
    pub(super) serial: usize,
    start: usize,
    end: usize,
    file_page: usize,
}

impl Found {
    /// Returns whether the mapping is writable now.
    pub(super) fn is_writable(&self) -> bool {
        self.slot.mode.load(Ordering::Relaxed) & WRITABLE != 0
    }

    /// Returns whether the mapping's faults are handled in every thread.
    pub(super) fn is_handled_in_all_threads(&self) -> bool {
        self.slot.mode.load(Ordering::Relaxed) & IN_ALL_THREADS != 0
    }

    /// Returns the number of pages of the mapping.
    pub(super) fn page_count(&self) -> usize {
        (self.end - self.start) / page_bytes()
    }

    /// Returns the index of the mapping's page that contains an address.
    pub(super) fn page_of(&self, address: usize) -> usize {
        (address - self.start) / page_bytes()
    }

    /// Returns the number of the file's page that a page of the mapping maps.
    pub(super) fn file_page(&self, page: usize) -> usize {
        self.file_page + page
    }

    /// Records a fault, which is remembered until the watch ends.
    ///
    /// The order of the stores matters: a thread that loads `LIVE_FAULTS` above zero must find the fault in the slot.
    pub(super) fn record_fault(&self, page: usize) {
        let first = self.file_page(page) + 1;
        // The slot keeps the first fault: the exchange fails for all later faults.
        _ = self.slot.first.compare_exchange(0, first, Ordering::AcqRel, Ordering::Acquire);
        self.slot.faults.fetch_add(1, Ordering::AcqRel);
        LIVE_FAULTS.fetch_add(1, Ordering::AcqRel);
    }
}

fn slabs() -> impl Iterator<Item = &'static Slab> {
    iter::successors(Some(&FIRST_SLAB), |slab| slab.next.get().map(|next| &**next))
}

/// Returns the watched mapping at an address. Async-signal-safe: it only reads and writes atomics, and never waits.
pub(super) fn find(address: usize) -> Option<Found> {
    find_recent(address).or_else(|| {
        let found = slabs()
            .filter(|slab| slab.taken.load(Ordering::Relaxed) > 0)
            .flat_map(|slab| &slab.slots)
            .find_map(|slot| slot.find(address))?;
        let place = NEXT_RECENT.fetch_add(1, Ordering::Relaxed) % RECENT.len();
        RECENT[place].store(ptr::from_ref(found.slot).cast_mut(), Ordering::Relaxed);
        Some(found)
    })
}

/// Looks for the watched mapping at an address, but only in the slots of the last faults.
fn find_recent(address: usize) -> Option<Found> {
    RECENT.iter().find_map(|recent| {
        let slot = recent.load(Ordering::Relaxed);
        // SAFETY: the pointer is null, or `find` made it from a `&'static Slot`. Slots are never freed, and hold only
        // atomics.
        unsafe { slot.as_ref() }?.find(address)
    })
}
