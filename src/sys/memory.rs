//! [`Memory`]: the mapped bytes of a file. Each function checks the given range before the system call.
#![allow(unsafe_code)]

use super::failure::{is_bad_address, is_unsupported, refuses_arguments};
use super::fault::{self, Scope};
use super::inject::{Call, Durable, sync, through};
use super::os::{self, page_bytes};
use super::types::{Hint, Protection};
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::hint::black_box;
use std::io;
use std::ops::Range;

/// The mapped bytes of a file. Dropping the value unmaps the bytes.
///
/// Ranges are relative to the first byte that [`map`](Self::map) has mapped. A function that works on pages includes
/// every page that the range touches.
///
/// Invariant 1: `raw` maps at least one byte. The kernel maps whole pages, so the bytes of the first page before `raw`
/// are mapped, too.
#[derive(Debug)]
pub(crate) struct Memory {
    raw: MmapRaw,
}

/// The pages that contain bytes of a range of a mapping: the start of the first page, and the distance from this start
/// to the end of the range.
struct Pages {
    start: *mut u8,
    len: usize,
}

impl Memory {
    /// Maps `len` bytes of the file from `offset` on. The offset need not be a multiple of the page size. Fails with
    /// `InvalidInput` if `len` is zero.
    pub(crate) fn map(file: &File, offset: u64, len: usize, protection: Protection) -> io::Result<Self> {
        through(Call::Map, || Self::map_quietly(file, offset, len, protection))
    }

    /// Maps the file without fault injection. Hints call this function directly, because their failure loses no data.
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
                // Without the flag `MAP_NORESERVE`, the kernel may have to reserve swap space for every page in
                // advance.
                options.no_reserve_swap();
                // SAFETY: this function neither reads nor writes the memory. The lock keeps other arrays from changing
                // the file while this array is read, as the crate's section "Soundness" explains.
                unsafe { options.map_copy(file) }.map(MmapRaw::from)
            }
        }?;
        Ok(Self { raw })
    }

    /// Returns the address of the first byte.
    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.raw.as_mut_ptr()
    }

    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    /// Fails with `InvalidInput` if the range does not lie in the mapping.
    fn check(&self, range: &Range<usize>) -> io::Result<()> {
        let is_inside = range.start <= range.end && range.end <= self.len();
        if is_inside { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Returns the pages that a range touches, or `None` for an empty range.
    fn pages(&self, range: &Range<usize>) -> io::Result<Option<Pages>> {
        self.check(range)?;
        let first = self.as_mut_ptr().wrapping_add(range.start);
        let in_page = first as usize % page_bytes();
        // By invariant 1, the start of the first page is mapped, too.
        let pages = Pages { start: first.wrapping_sub(in_page), len: in_page + (range.end - range.start) };
        Ok((!range.is_empty()).then_some(pages))
    }

    /// Tells the kernel how a range will be used. If the kernel does not support the hint, nothing happens.
    pub(crate) fn advise(&self, range: Range<usize>, hint: Hint) -> io::Result<()> {
        self.check(&range)?;
        let advice = match hint {
            Hint::Normal => Advice::Normal,
            Hint::Sequential => Advice::Sequential,
            Hint::Random => Advice::Random,
            Hint::WillNeed => Advice::WillNeed,
            #[cfg(target_os = "linux")]
            Hint::HugePages => Advice::HugePage,
            #[cfg(target_os = "linux")]
            Hint::NoHugePages => Advice::NoHugePage,
            #[cfg(not(target_os = "linux"))]
            Hint::HugePages | Hint::NoHugePages => return Ok(()),
        };
        match self.raw.advise_range(advice, range.start, range.len()) {
            Err(error) if refuses_arguments(&error) => Ok(()),
            advised => advised,
        }
    }

    /// Writes the dirty pages of a range to disk, and returns when they are durable.
    #[cfg_attr(test, track_caller)]
    pub(crate) fn sync(&self, range: Range<usize>) -> io::Result<()> {
        self.check(&range)?;
        if range.is_empty() {
            return Ok(());
        }
        let start = self.as_mut_ptr() as usize + range.start;
        sync(Durable::Memory(start, range.len()), || self.raw.flush_range(range.start, range.len()))
    }

    /// Adds the pages of a range to this process's page table, as if each page had been read. Fails if a page does not
    /// exist, or if the system does not support the call.
    pub(crate) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        match self.pages(&range)? {
            Some(Pages { start, len }) => os::populate(start, len),
            None => Ok(()),
        }
    }

    /// Removes the pages of a range from this process's page table. A later access maps the pages again from the file.
    /// If the system refuses the call, the pages stay.
    ///
    /// # Safety
    /// No page of the range is private while this function runs. A page is private if it is a changed page of a private
    /// mapping, or a page of zeros that replaced a faulted page. This function would discard the content of a private
    /// page, although borrows of it may exist.
    pub(crate) unsafe fn release(&self, range: Range<usize>) -> io::Result<()> {
        let Some(Pages { start, len }) = self.pages(&range)? else { return Ok(()) };
        // SAFETY: the range is mapped (checked), and the file contains the content of every page (the caller's
        // promise).
        match unsafe { os::discard(start, len) } {
            Err(error) if is_unsupported(&error) => Ok(()),
            released => released,
        }
    }

    /// Asks the kernel to reclaim the pages of a range. The kernel drops unchanged pages, and may move changed pages to
    /// swap. If the system refuses the call, the pages stay.
    pub(crate) fn page_out(&self, range: Range<usize>) -> io::Result<()> {
        let Some(Pages { start, len }) = self.pages(&range)? else { return Ok(()) };
        match os::page_out(start, len) {
            Err(error) if refuses_arguments(&error) => Ok(()),
            paged_out => paged_out,
        }
    }

    /// Makes the whole mapping read-only. It never becomes writable again.
    ///
    /// # Safety
    /// No `&mut` into the mapping exists, and none will be created.
    pub(crate) unsafe fn protect_read_only(&self) -> io::Result<()> {
        let Some(Pages { start, len }) = self.pages(&(0..self.len()))? else { return Ok(()) };
        // SAFETY: the range is the whole live mapping (invariant 1). The caller promises the rest.
        unsafe { os::protect_read_only(start, len) }
    }

    /// Returns one flag for each page that a range of a private mapping touches: whether the page was changed. A
    /// changed page is a private copy of the file's page. If this function fails, the caller must assume that every
    /// page was changed.
    pub(crate) fn changed_pages(&self, range: Range<usize>) -> io::Result<Vec<bool>> {
        match self.pages(&range)? {
            Some(Pages { start, len }) => os::changed_pages(start, len.div_ceil(page_bytes())),
            None => Ok(Vec::new()),
        }
    }

    /// Copies mapped bytes from `offset` on to a buffer, until the buffer is full. Fails if the file was truncated and
    /// a page is missing.
    ///
    /// The kernel makes the copy, so a missing page raises no signal. If the kernel refuses the call, this thread
    /// copies the bytes under the fault guard. In that case this function does not return a fault as an error, but the
    /// fault is recorded with the mapping. So the caller checks after the copy that the mapping has not faulted. If the
    /// system has no fault guard either, this function fails with `Unsupported`.
    pub(crate) fn copy_out(&self, offset: usize, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len()).ok_or(io::ErrorKind::InvalidInput)?;
        self.check(&(offset..end))?;
        let from = self.as_mut_ptr().wrapping_add(offset);
        match os::copy_mapped(from, buffer) {
            Err(error) if is_unsupported(&error) => {
                fault::install()?;
                let scope = Scope::enter();
                // `black_box` keeps the optimiser from moving the copy out of the scope.
                let from = black_box(from.cast_const());
                // SAFETY: `from` points to `buffer.len()` bytes of the live mapping (checked), which no `&mut`
                // overlaps.
                unsafe { from.copy_to_nonoverlapping(buffer.as_mut_ptr(), buffer.len()) };
                black_box(buffer);
                drop(scope);
                Ok(())
            }
            copied => copied,
        }
    }
}

/// Drops one page of the file from the page cache: maps only this page, and asks the kernel to reclaim it. If the page
/// is part of a large folio, the kernel splits the folio. If the system refuses a call, the folio stays whole. If the
/// page does not exist, because another process has truncated the file, there is nothing to drop.
pub(crate) fn reclaim_page(file: &File, page: Range<u64>) -> io::Result<()> {
    let memory = Memory::map_quietly(file, page.start, page_bytes(), Protection::ReadOnly)?;
    let all = 0..memory.len();
    memory.advise(all.clone(), Hint::Random)?; // so that the kernel does not read ahead
    match os::populate(memory.as_mut_ptr(), memory.len()) {
        // When the kernel copies a byte of the page, the page becomes resident, too.
        Err(error) if refuses_arguments(&error) => _ = os::copy_mapped(memory.as_mut_ptr(), &mut [0]),
        Err(error) if is_bad_address(&error) => return Ok(()),
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
    fn a_page_after_the_end_of_the_file_is_nothing_to_reclaim() {
        let file = tempfile::tempfile_in("/var/tmp").unwrap();
        let page = page_bytes() as u64;
        super::super::fs::write_all_at(&file, &[1; 10], 0).unwrap();
        for start in [0, page, 7 * page] {
            reclaim_page(&file, start..start + page).unwrap();
        }
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
}
