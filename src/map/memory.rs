//! [`Memory`]: mapped bytes of a file.
#![allow(unsafe_code)]

use crate::access::AccessMode;
use crate::sys::{self, Call, page_bytes, through};
use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::ops::Range;

#[derive(Debug)]
pub(super) struct Memory(MmapRaw);

impl Memory {
    pub(super) fn map(file: &File, offset: u64, len: usize, access: AccessMode) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        through(Call::Map, || match access {
            AccessMode::ReadOnly => options.map_raw_read_only(file),
            AccessMode::ReadWrite => options.map_raw(file),
            AccessMode::CopyOnWrite => {
                let mut options = options.clone();
                options.no_reserve_swap();
                // SAFETY: nothing here reads or writes the memory; that the file does not change under its readers is what
                // the lock and the crate's section "Soundness" are about.
                unsafe { options.map_copy(file) }.map(MmapRaw::from)
            }
        })
        .map(Self)
    }

    pub(super) fn as_mut_ptr(&self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    pub(super) fn advise(&self, range: Range<usize>, advice: Advice) -> io::Result<()> {
        self.0.advise_range(advice, range.start, range.len())
    }

    pub(super) fn sync(&self, range: Range<usize>) -> io::Result<()> {
        through(Call::Sync, || self.0.flush_range(range.start, range.len()))
    }

    /// # Safety
    /// The mapping is shared, and no page of it was replaced.
    pub(super) unsafe fn release(&self, range: Range<usize>) -> io::Result<()> {
        // SAFETY: promised by the caller.
        unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) }
    }

    pub(super) fn page_out(&self, range: Range<usize>) -> io::Result<()> {
        let first = self.as_mut_ptr().wrapping_add(range.start);
        let in_page = first as usize % page_bytes();
        sys::page_out(first.wrapping_sub(in_page), in_page + range.len())
    }

    /// # Safety
    /// No `&mut` into the memory exists, and none will be made.
    pub(super) unsafe fn protect_read_only(&self) -> io::Result<()> {
        let in_page = self.as_mut_ptr() as usize % page_bytes();
        // SAFETY: promised by the caller.
        unsafe { sys::protect_read_only(self.as_mut_ptr().wrapping_sub(in_page), in_page + self.0.len()) }
    }
}
