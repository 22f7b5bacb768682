//! What a stream asks of a mapping: it moves the bytes through the file, beside the mapping, and keeps the two agreeing.

use super::Mapping;
use crate::error::{Error, Result};
use crate::geometry::{ByteRuns, merged, to_pages};
use crate::sys::{self, Hint, page_bytes};
use ndarray::{ArrayRef, Dimension};
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// How far eviction in a loop reaches back over the end of what it evicted last, in bytes: the kernel drops whole folios
/// only, and a folio across that end, 2 MiB at the most, was still in use then.
const REACH_BACK_BYTES: u64 = 2 << 20;

impl Mapping {
    /// Where a view of this memory lies in the file, from its first byte to its last.
    pub(crate) fn place_of<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> Range<u64> {
        let hull = self.runs_of(view).hull();
        self.file_offset + hull.start as u64..self.file_offset + hull.end as u64
    }

    /// The bytes of a view of this memory, relative to the start of the data.
    fn runs_of<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> ByteRuns {
        let (runs, above) = ByteRuns::of_view(view.shape(), view.strides(), size_of::<T>());
        runs.moved_up(view.as_ptr() as usize - above - self.address())
    }

    /// Lets the kernel read ahead of a walk through the array, unless the caller has chosen a pattern; as a hint.
    pub(crate) fn expect_sequential(&self) {
        if self.pattern_chosen.swap(true, Ordering::Relaxed) {
            return;
        }
        let everything = self.file_bytes();
        let _ = self.advise_mapped(&everything, Hint::Sequential);
        // Read-ahead in huge pages, where the file system has them, is several times the default one.
        let _ = self.advise_mapped(&everything, Hint::HugePages);
    }

    /// Evicts a part of the file exactly, as far as the array reaches.
    pub(crate) fn evict_touched(&self, file_range: Range<u64>) -> Result<()> {
        let end = file_range.end.min(self.file_bytes().end);
        self.drop_passed_pages(to_pages(file_range.start..end, page_bytes()))
    }

    /// Takes the pages of a part of the file out of this process, as a hint: they stay in the cache.
    pub(crate) fn release(&self, file_range: &Range<u64>) {
        let _ = self.unmap_pages(&to_pages(file_range.clone(), page_bytes()));
    }

    /// Takes the pages of a part of the file out of this process and of the cache, as a hint: what is dirty, or was
    /// changed in a private copy, stays.
    pub(crate) fn drop_behind(&self, file_range: &Range<u64>) {
        let start = file_range.start.saturating_sub(REACH_BACK_BYTES).max(self.file_bytes().start);
        let pages = to_pages(start..file_range.end, page_bytes());
        self.release(&pages);
        let _ = self.release_unchanged(&pages);
        if !self.in_memory {
            let _ = sys::drop_cached(&self.file, pages);
        }
    }

    /// Which parts of a part of the file differ from it in this private copy: the pages that were changed, as far as the
    /// part and the array reach. Where nobody can tell, all of it.
    pub(crate) fn changed_parts(&self, file_range: &Range<u64>) -> Vec<Range<u64>> {
        let local = self.local(file_range);
        if local.is_empty() {
            return Vec::new();
        }
        let page = page_bytes();
        let array = self.file_bytes();
        let wanted = file_range.start.max(array.start)..file_range.end.min(array.end);
        let pages = to_pages(wanted.clone(), page);
        let changed = self.memory.as_ref().map(|memory| memory.changed_pages(local));
        let Some(Ok(changed)) = changed else { return std::iter::once(wanted).collect() };
        let starts = (pages.start..pages.end).step_by(page).zip(changed);
        let changed = starts.filter(|(_, changed)| *changed).map(|(start, _)| start..start + page as u64);
        merged(changed).map(|part| part.start.max(wanted.start)..part.end.min(wanted.end)).collect()
    }

    /// Copies a part of a private copy as it is, changes included, to a buffer of its size. Where the file has been cut
    /// short, this is an error, or the mapping has faulted: check [`check_usable`](Self::check_usable) afterwards. (What is
    /// left of the last page of a file reads as zeros: copy only pages that were changed.)
    pub(crate) fn copy_private(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let local = self.local(&(offset..offset + buffer.len() as u64));
        debug_assert_eq!(local.len(), buffer.len(), "only elements of the array are read");
        match &self.memory {
            Some(memory) => memory.copy_out(local.start, buffer),
            None => Ok(()),
        }
    }

    /// Takes disk space for the pages under a view where the file has holes, so that a store there cannot fault on a full
    /// disk. Where the filesystem cannot reserve, nothing happens.
    pub(crate) fn reserve_under<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> Result<()> {
        let failed = |error| Error::io("stream", "disk space for the destination", error).at(&self.path);
        let status = sys::status(&self.file).map_err(failed)?;
        if status.allocated_bytes >= status.len {
            return Ok(());
        }
        let end = self.file_bytes().end;
        for pages in self.pages_in_file(self.runs_of(view)) {
            match sys::reserve(&self.file, pages.start..pages.end.min(end)) {
                Err(error) if sys::is_unsupported(&error) => return Ok(()),
                reserved => reserved.map_err(failed)?,
            }
        }
        Ok(())
    }

    /// Starts writing a part of the file back. A failure is remembered: the kernel tells of it only once.
    pub(crate) fn write_behind(&self, file_range: &Range<u64>) -> Result<()> {
        let pages = to_pages(file_range.clone(), page_bytes());
        self.synced(|| sys::start_writeback(&self.file, pages))
    }

    /// Waits until a part of the file is written back. A failure is remembered.
    pub(crate) fn wait_behind(&self, file_range: &Range<u64>) -> Result<()> {
        let pages = to_pages(file_range.clone(), page_bytes());
        self.synced(|| sys::sync_range(&self.file, pages))
    }

    /// Makes what was written to the file, beside the mapping, durable.
    pub(crate) fn sync_transfer(&self) -> Result<()> {
        self.check_usable("copy_into")?;
        self.synced(|| sys::fs::sync_data(&self.file))
    }

    /// Remembers a failed transfer: the kernel tells of a failed write-back only once.
    pub(crate) fn fail_transfer(&self, error: io::Error) -> Error {
        self.poison(error).during("copy_into")
    }

    /// Whether every page of a part of the file is in the page cache, as far as anybody can tell.
    pub(crate) fn all_resident(&self, pages: Range<u64>) -> bool {
        self.page_counter.all_resident(&self.file, pages)
    }

    /// Whether more than half of the pages of a part of the file are in the page cache, as far as anybody can tell.
    pub(crate) fn most_resident(&self, pages: Range<u64>) -> bool {
        self.page_counter.most_resident(&self.file, pages)
    }

    /// Whether the page cache is the file.
    pub(crate) fn is_in_memory(&self) -> bool {
        self.in_memory
    }
}
