//! [`Memory`]: mapped bytes of a file, with every range checked before the system sees it.
#![allow(unsafe_code)]

use super::failure::{is_unsupported, refuses_arguments};
use super::fault::{self, Scope};
use super::inject::{Call, through};
use super::os::{self, page_bytes};
use super::types::{Hint, Protection};
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::hint::black_box;
use std::io;
use std::ops::Range;

/// Mapped bytes of a file, unmapped when dropped.
///
/// Ranges count from the first byte that was asked for. Calls that work on pages take every page that the range touches.
///
/// Invariants:
/// 1. `raw` maps at least one byte, from the start of its first page on;
/// 2. the first page lies at `first_page_offset` in the file that was mapped.
#[derive(Debug)]
pub(crate) struct Memory {
    raw: MmapRaw,
    first_page_offset: u64,
}

/// Whole pages of a mapping.
struct Pages {
    start: *mut u8,
    len: usize,
}

impl Memory {
    /// Maps `len` bytes of the file from `offset` on, which need not be the start of a page. `InvalidInput` for no bytes.
    pub(crate) fn map(file: &File, offset: u64, len: usize, protection: Protection) -> io::Result<Self> {
        through(Call::Map, || Self::map_quietly(file, offset, len, protection))
    }

    /// Maps, without the door of fault injection: for a hint, whose failure loses nothing.
    fn map_quietly(file: &File, offset: u64, len: usize, protection: Protection) -> io::Result<Self> {
        if len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut options = MmapOptions::new();
        options.offset(offset).len(len);
        let raw = match protection {
            Protection::ReadOnly => options.map_raw_read_only(file),
            Protection::ReadWrite => options.map_raw(file),
            Protection::CopyOnWrite => {
                // Without this, swap for every page would have to be promised beforehand.
                options.no_reserve_swap();
                // SAFETY: nothing here reads or writes the memory; that the file does not change under its readers is what
                // the lock and the crate's section "Soundness" are about.
                unsafe { options.map_copy(file) }.map(MmapRaw::from)
            }
        }?;
        Ok(Self { raw, first_page_offset: offset - offset % page_bytes() as u64 })
    }

    /// The first byte.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.raw.as_mut_ptr()
    }

    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    /// `InvalidInput` for a range that does not lie in the mapping.
    fn check(&self, range: &Range<usize>) -> io::Result<()> {
        let is_inside = range.start <= range.end && range.end <= self.len();
        if is_inside { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// The pages that a range touches; `None` for an empty one.
    fn pages(&self, range: &Range<usize>) -> io::Result<Option<Pages>> {
        self.check(range)?;
        let first = self.as_mut_ptr().wrapping_add(range.start);
        let in_page = first as usize % page_bytes();
        // Invariant 1: the page's start is mapped, too.
        let pages = Pages { start: first.wrapping_sub(in_page), len: in_page + (range.end - range.start) };
        Ok((!range.is_empty()).then_some(pages))
    }

    /// Tells the system how a range will be used. A system that does not take the hint is none the worse.
    pub(crate) fn advise(&self, range: Range<usize>, hint: Hint) -> io::Result<()> {
        self.check(&range)?;
        let advice = match hint {
            Hint::Normal => Advice::Normal,
            Hint::Sequential => Advice::Sequential,
            Hint::Random => Advice::Random,
            Hint::WillNeed => Advice::WillNeed,
            #[cfg(target_os = "linux")]
            Hint::HugePages => Advice::HugePage,
            #[cfg(not(target_os = "linux"))]
            Hint::HugePages => return Ok(()),
        };
        match self.raw.advise_range(advice, range.start, range.len()) {
            Err(error) if refuses_arguments(&error) => Ok(()),
            advised => advised,
        }
    }

    /// Writes the dirty pages of a range to disk; durable on return.
    pub(crate) fn sync(&self, range: Range<usize>) -> io::Result<()> {
        self.check(&range)?;
        if range.is_empty() {
            return Ok(());
        }
        through(Call::Sync, || self.raw.flush_range(range.start, range.len()))
    }

    /// Takes the pages of a range out of this process. A later access reads them from the file. Where that is refused, they
    /// stay.
    ///
    /// # Safety
    /// No page of the range is private, be it as a changed page of a private copy or as the answer to a fault, and none
    /// becomes so meanwhile: what was stored there would be lost under those who hold borrows.
    pub(crate) unsafe fn release(&self, range: Range<usize>) -> io::Result<()> {
        let Some(Pages { start, len }) = self.pages(&range)? else { return Ok(()) };
        // SAFETY: the range is mapped (checked), and every page reads the same from the file again (the caller's promise).
        match unsafe { os::discard(start, len) } {
            Err(error) if is_unsupported(&error) => Ok(()),
            released => released,
        }
    }

    /// Asks the system to give up the pages of a range: unchanged ones are dropped, changed ones may be swapped out. Where
    /// that is refused, they stay.
    pub(crate) fn page_out(&self, range: Range<usize>) -> io::Result<()> {
        let Some(Pages { start, len }) = self.pages(&range)? else { return Ok(()) };
        match os::page_out(start, len) {
            Err(error) if refuses_arguments(&error) => Ok(()),
            paged_out => paged_out,
        }
    }

    /// Takes the right to write from all of the mapping, for good.
    ///
    /// # Safety
    /// No `&mut` into the mapping exists, and none will be made.
    pub(crate) unsafe fn protect_read_only(&self) -> io::Result<()> {
        let Some(Pages { start, len }) = self.pages(&(0..self.len()))? else { return Ok(()) };
        // SAFETY: invariant 1: the range is the whole live mapping; the rest is the caller's promise.
        unsafe { os::protect_read_only(start, len) }
    }

    /// Makes pages of a shared mapping private, in place: borrows keep reading the file's bytes, and what they write from
    /// now on reaches no file. Pages are counted from the mapping's first one.
    ///
    /// # Safety
    /// - `file` is the file that was mapped.
    /// - No page of the range was replaced by another since, nor is it meanwhile.
    pub(crate) unsafe fn make_private(&self, pages: Range<usize>, file: &File) -> io::Result<()> {
        let Some(Pages { start, len }) = self.pages(&(0..self.len()))? else { return Ok(()) };
        let byte_of = |page: usize| page.checked_mul(page_bytes()).map_or(len, |byte| byte.min(len));
        let (first, end) = (byte_of(pages.start), byte_of(pages.end));
        if first >= end {
            return Ok(());
        }
        let offset = self.first_page_offset + first as u64;
        // SAFETY:
        // - `first..end` is a part of the live mapping, from the start of a page on (just calculated);
        // - invariant 2: `offset` is where that page lies in the file, a multiple of the page size;
        // - the file is the mapped one, and no page of the range is another than the file's (the caller's promise).
        unsafe { os::remap_private(start.wrapping_add(first), end - first, file, offset) }
    }

    /// For each page that a range of a private copy touches: whether it was changed, so that it is not the file's page any
    /// more. An error where the system does not say: then every page may have been.
    pub(crate) fn changed_pages(&self, range: Range<usize>) -> io::Result<Vec<bool>> {
        match self.pages(&range)? {
            Some(Pages { start, len }) => os::changed_pages(start, len.div_ceil(page_bytes())),
            None => Ok(Vec::new()),
        }
    }

    /// Copies bytes from an offset on to a buffer. A page that cannot be had, because the file was cut short, is an error.
    ///
    /// The system copies, and raises no signal. Where it refuses, this thread copies under the fault guard, and a page that
    /// cannot be had is remembered with the mapping, not returned as an error: the caller checks after the copy that the
    /// mapping never faulted. `Unsupported` where there is no guard either.
    pub(crate) fn copy_out(&self, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len()).ok_or(io::ErrorKind::InvalidInput)?;
        self.check(&(offset..end))?;
        let from = self.as_mut_ptr().wrapping_add(offset);
        match os::copy_mapped(from, buffer) {
            Err(error) if is_unsupported(&error) => {
                fault::install()?;
                let scope = Scope::enter();
                // The optimiser may not move the copy out of the scope: it cannot see through `black_box`.
                let from = black_box(from.cast_const());
                // SAFETY: `from` starts `buffer.len()` bytes of the live mapping (checked), which no `&mut` overlaps.
                unsafe { from.copy_to_nonoverlapping(buffer.as_mut_ptr(), buffer.len()) };
                black_box(buffer);
                drop(scope);
                Ok(())
            }
            copied => copied,
        }
    }
}

/// Whether [`Memory::copy_out`] works here. Installs the handler of the fault guard where the system does not copy.
pub(crate) fn can_copy_out() -> bool {
    os::copy_mapped([1].as_ptr(), &mut [0]).is_ok() || fault::install().is_ok()
}

/// Drops one page of the file from the page cache by way of a mapping of its own, which splits a large folio that the page
/// is part of. Where that is refused, the folio stays whole.
pub(crate) fn reclaim_page(file: &File, page: Range<u64>) -> io::Result<()> {
    let memory = Memory::map_quietly(file, page.start, page_bytes(), Protection::ReadOnly)?;
    let all = 0..memory.len();
    memory.advise(all.clone(), Hint::Random)?; // no read-ahead for the sake of one page
    match os::populate(memory.as_mut_ptr(), memory.len()) {
        // To copy a byte, the kernel brings the page in as well.
        Err(error) if refuses_arguments(&error) => _ = os::copy_mapped(memory.as_mut_ptr(), &mut [0]),
        populated => populated?,
    }
    memory.page_out(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(offset: u64, len: usize, protection: Protection) -> Memory {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let content: Vec<u8> = (0..5 * page_bytes()).map(|byte| (byte % 251) as u8).collect();
        super::super::fs::write_all_at(&file, &content, 0).unwrap();
        Memory::map(&file, offset, len, protection).unwrap()
    }

    #[test]
    fn ranges_beyond_the_mapping_are_refused() {
        let len = 2 * page_bytes();
        for (offset, protection) in [
            (0, Protection::ReadOnly),
            (100, Protection::ReadWrite),
            (page_bytes() as u64 + 1, Protection::CopyOnWrite),
        ] {
            let memory = mapped(offset, len, protection);
            let reversed = Range { start: 2, end: 1 };
            for range in [0..len + 1, len..usize::MAX, usize::MAX - 1..usize::MAX, reversed] {
                let results = [
                    memory.advise(range.clone(), Hint::Normal),
                    memory.sync(range.clone()),
                    memory.page_out(range.clone()),
                    memory.changed_pages(range.clone()).map(|_| ()),
                    // SAFETY: the range is refused.
                    unsafe { memory.release(range.clone()) },
                ];
                for result in results {
                    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput, "{range:?}");
                }
            }
            for start in [len, usize::MAX] {
                assert_eq!(memory.copy_out(start, &mut [0]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            }
            for range in [0..0, len..len, 0..len, 1..2, len - 1..len] {
                memory.advise(range.clone(), Hint::WillNeed).unwrap();
                memory.sync(range.clone()).unwrap();
                memory.page_out(range).unwrap();
            }
        }
    }

    #[test]
    fn a_mapping_without_bytes_is_refused() {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let error = Memory::map(&file, 0, 0, Protection::ReadOnly).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn private_pages_keep_their_bytes_and_the_file_does_not_change() {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let page = page_bytes();
        super::super::fs::write_all_at(&file, &vec![1; 4 * page], 0).unwrap();
        let memory = Memory::map(&file, 10, 4 * page - 10, Protection::ReadWrite).unwrap();
        // SAFETY: the file is the one that was mapped, and no page was replaced.
        unsafe { memory.make_private(1..3, &file) }.unwrap();
        // SAFETY: no pages: nothing is replaced.
        unsafe { memory.make_private(9..usize::MAX, &file) }.unwrap();
        for at in [0, page - 10, 3 * page - 11, 3 * page - 10] {
            // SAFETY: the byte lies in the mapping, which nobody else knows of.
            unsafe { memory.as_mut_ptr().wrapping_add(at).write(2) };
        }
        let mut bytes = vec![0; 4 * page];
        super::super::fs::read_exact_at(&file, &mut bytes, 0).unwrap();
        let changed: Vec<_> = (0..4 * page).filter(|&at| bytes[at] == 2).collect();
        assert_eq!(changed, [10, 3 * page], "the stores to the first and the last page, which stayed shared");
    }
}
