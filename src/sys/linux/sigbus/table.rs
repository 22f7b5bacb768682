//! The mappings that are watched, for a reader that may interrupt anything: the signal handler.
//!
//! `watch.rs` puts mappings in and takes them out under a lock, which the handler never touches. The handler walks slots
//! of atomics that are never freed, and takes no wrong one for its own:
//!
//! 1. A slot is written as a sequence lock, with the unique serial number of the registration in the place of the
//!    counter: zero, fence, fields, serial. A reader that finds the same serial before and after the fields has read
//!    one registration, whole. If it differs it passes on, without another try: somebody else's slot has changed.
//! 2. The slot that a faulting thread looks for does not change while it looks. The thread is in the middle of an
//!    access to the mapping, so it holds a borrow of the array or a part of it, and the owner's
//!    [`Watch`](super::Watch) outlives that.
//! 3. No registration is left over for addresses that were given to somebody else: [`watch`](super::watch()) demands that
//!    the watch goes before the memory does.
#![allow(unsafe_code)]

use super::MappedRange;
use super::pages::PageStates;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, fence};
use crate::sys::page_bytes;
use std::iter;
use std::ptr;
use std::sync::OnceLock;

/// How many slots are added at a time.
pub(super) const SLOTS_PER_SLAB: usize = 512;
/// The serial number of no registration.
pub(super) const VACANT: usize = 0;

/// In [`Slot::mode`]: the mapping may be written to.
const WRITABLE: usize = 1;
/// In [`Slot::mode`]: faults are answered in whichever thread they come up.
const ANSWER_ALWAYS: usize = 2;

/// One watched mapping, as the handler sees it.
///
/// Invariants:
/// 1. `start` and `end` are multiples of the page size, and `file_page` is the page of the file at `start`;
/// 2. these three change only while `serial` is `VACANT`;
/// 3. `faults` and `first` belong to the registration of `serial`: they are zero when it begins.
pub(super) struct Slot {
    serial: AtomicUsize,
    start: AtomicUsize,
    end: AtomicUsize,
    file_page: AtomicUsize,
    mode: AtomicUsize,
    /// One more than the page of the file that faulted first; zero as long as none has.
    first: AtomicUsize,
    /// How many times a page was found missing and replaced.
    faults: AtomicUsize,
    pub(super) pages: PageStates,
}

/// Slots that are made together and never freed.
pub(super) struct Slab {
    pub(super) slots: [Slot; SLOTS_PER_SLAB],
    /// How many of them are taken: the handler passes over a slab without any.
    pub(super) taken: AtomicUsize,
    next: OnceLock<Box<Slab>>,
}

pub(super) static FIRST_SLAB: Slab = Slab::new();

/// Where the last faults were found, in a ring. The next one is likely to be there, too.
static RECENT: [AtomicPtr<Slot>; 16] = [const { AtomicPtr::new(ptr::null_mut()) }; 16];
/// Which place of the ring is the next to be used, modulo its length.
static NEXT_RECENT: AtomicUsize = AtomicUsize::new(0);

/// The faults of all mappings that are watched now: their `faults` summed up.
pub(super) static LIVE_FAULTS: AtomicUsize = AtomicUsize::new(0);

/// Where a page of the file starts.
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

    /// Begins a registration in a vacant slot; the caller holds the books.
    pub(super) fn publish(&self, serial: usize, range: &MappedRange) {
        let page = page_bytes();
        let lead_bytes = range.start % page;
        let file_page = (range.file_offset - lead_bytes as u64) / page as u64;
        let mode = if range.writable { WRITABLE } else { 0 };
        // Pairs with the fence in `find`: who reads a field written below finds the slot vacant, or `serial`.
        fence(Ordering::Release);
        self.start.store(range.start - lead_bytes, Ordering::Relaxed);
        self.end.store((range.start + range.len).next_multiple_of(page), Ordering::Relaxed);
        // A page number of a file that can be mapped fits: the kernel counts pages in an unsigned long, too.
        self.file_page.store(file_page as usize, Ordering::Relaxed);
        self.mode.store(mode, Ordering::Relaxed);
        self.first.store(0, Ordering::Relaxed);
        self.faults.store(0, Ordering::Relaxed);
        self.serial.store(serial, Ordering::Release);
    }

    /// Ends the registration; the caller holds the books, and nobody uses the mapping any more.
    pub(super) fn retire(&self) {
        let page_count =
            (self.end.load(Ordering::Relaxed) - self.start.load(Ordering::Relaxed)) / page_bytes();
        self.serial.store(VACANT, Ordering::Release);
        self.pages.release(page_count);
    }

    /// The registration in this slot, if it holds the address. Async-signal-safe and wait-free.
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

    /// Whose registration this is.
    pub(super) fn serial(&self) -> usize {
        self.serial.load(Ordering::Relaxed)
    }

    /// How many faults it had.
    pub(super) fn faults(&self) -> usize {
        self.faults.load(Ordering::Acquire)
    }

    pub(super) fn answer_always(&self) {
        self.mode.fetch_or(ANSWER_ALWAYS, Ordering::Relaxed);
    }

    pub(super) fn set_read_only(&self) {
        self.mode.fetch_and(!WRITABLE, Ordering::Relaxed);
    }

    /// Where in the file the first fault was.
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

    /// The slab after this one, made if there is none.
    pub(super) fn next_or_new(&'static self) -> &'static Self {
        self.next.get_or_init(|| Box::new(Self::new()))
    }
}

/// A registration, as the handler found it.
pub(super) struct Found {
    pub(super) slot: &'static Slot,
    pub(super) serial: usize,
    start: usize,
    end: usize,
    file_page: usize,
}

impl Found {
    /// Whether the mapping may be written to at this moment.
    pub(super) fn is_writable(&self) -> bool {
        self.slot.mode.load(Ordering::Relaxed) & WRITABLE != 0
    }

    /// Whether its faults are answered in whichever thread they come up.
    pub(super) fn answers_always(&self) -> bool {
        self.slot.mode.load(Ordering::Relaxed) & ANSWER_ALWAYS != 0
    }

    /// How many pages the mapping has.
    pub(super) fn page_count(&self) -> usize {
        (self.end - self.start) / page_bytes()
    }

    /// Which page of the mapping holds an address of it.
    pub(super) fn page_of(&self, address: usize) -> usize {
        (address - self.start) / page_bytes()
    }

    /// Which page of the file a page of the mapping is.
    pub(super) fn file_page(&self, page: usize) -> usize {
        self.file_page + page
    }

    /// Remembers a fault, for as long as the mapping is watched. In this order: who finds `LIVE_FAULTS` above zero
    /// finds the fault.
    pub(super) fn remember(&self, page: usize) {
        let first = self.file_page(page) + 1;
        // The first to come is the first fault; the others leave it.
        _ = self.slot.first.compare_exchange(0, first, Ordering::AcqRel, Ordering::Acquire);
        self.slot.faults.fetch_add(1, Ordering::AcqRel);
        LIVE_FAULTS.fetch_add(1, Ordering::AcqRel);
    }
}

fn slabs() -> impl Iterator<Item = &'static Slab> {
    iter::successors(Some(&FIRST_SLAB), |slab| slab.next.get().map(|next| &**next))
}

/// The watched mapping at an address. Async-signal-safe: it reads atomics, and waits for nobody.
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

/// The same, where one of the last faults was found.
fn find_recent(address: usize) -> Option<Found> {
    RECENT.iter().find_map(|recent| {
        let slot = recent.load(Ordering::Relaxed);
        // SAFETY: the pointer is null or was made from a `&'static Slot` by `find`; slots are never freed, and hold only
        // atomics.
        unsafe { slot.as_ref() }?.find(address)
    })
}
