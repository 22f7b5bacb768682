//! The changed pages of copy-on-write mappings: which they are, and copies of them.

use super::Mapping;
use crate::error::{Error, Result};
use crate::geometry::{merged, to_pages};
use crate::sys::{self, page_bytes};
use std::ops::Range;

impl Mapping {
    /// Which bytes of a range of the file differ from the file in this copy-on-write mapping: its changed pages, as far as the range
    /// and the mapping reach. All of the range if the system does not tell.
    pub(crate) fn changed_parts(&self, file_range: &Range<u64>) -> Vec<Range<u64>> {
        let local = self.local(file_range);
        if local.is_empty() {
            return Vec::new();
        }
        let page = page_bytes();
        let mapped = &self.file_bytes;
        let wanted = file_range.start.max(mapped.start)..file_range.end.min(mapped.end);
        let pages = to_pages(wanted.clone(), page);
        let first = self.addresses().start + local.start;
        let count = ((pages.end - pages.start) / page as u64) as usize; // of what is mapped
        let Ok(changed) = sys::changed_pages(first - first % page, count) else {
            return std::iter::once(wanted).collect();
        };
        let starts = (pages.start..pages.end).step_by(page).zip(changed);
        let changed = starts.filter(|(_, changed)| *changed).map(|(start, _)| start..start + page as u64);
        merged(changed).map(|part| part.start.max(wanted.start)..part.end.min(wanted.end)).collect()
    }

    /// Copies a changed part of this copy-on-write mapping. The kernel copies, or this thread within the fault guard: a page that is
    /// missing because the file was cut short is an error, not a signal.
    pub(crate) fn copy_changed(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let local = self.local(&(offset..offset + buffer.len() as u64));
        debug_assert_eq!(local.len(), buffer.len(), "only elements of the array are read");
        sys::copy_mapped(self.as_mut_ptr().wrapping_add(local.start), buffer).map_err(|error| {
            Error::io("stream", "to read the array's changed pages", error).at(&self.path)
        })?;
        self.check_intact("stream")
    }
}
