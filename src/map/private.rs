//! The changed pages of copy-on-write mappings: which they are, and copies of them.

use super::Mapping;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::{merged, to_pages};
use crate::sys::{self, page_bytes};
use std::io;
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
        let changed = self.memory.as_ref().map(|memory| memory.changed_pages(local));
        let Some(Ok(changed)) = changed else { return std::iter::once(wanted).collect() };
        let starts = (pages.start..pages.end).step_by(page).zip(changed);
        let changed = starts.filter(|(_, changed)| *changed).map(|(start, _)| start..start + page as u64);
        merged(changed).map(|part| part.start.max(wanted.start)..part.end.min(wanted.end)).collect()
    }

    /// Copies a changed part of this copy-on-write mapping. The kernel copies, or this thread within the fault guard: a page that is
    /// missing because the file was cut short is an error, not a signal.
    pub(crate) fn copy_changed(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let local = self.local(&(offset..offset + buffer.len() as u64));
        debug_assert_eq!(local.len(), buffer.len(), "only elements of the array are read");
        let copied = self.memory.as_ref().map_or(Ok(()), |memory| memory.copy_out(local.start, buffer));
        copied.map_err(|error| self.lost(error))?;
        self.check_intact("stream")
    }

    fn lost(&self, error: io::Error) -> Error {
        if !sys::is_bad_address(&error) {
            return Error::io("stream", "to read the array's changed pages", error).at(&self.path);
        }
        let found = "pages that are gone, as the file was cut short";
        Error::new(ErrorKind::LengthMismatch, "stream", "the array's changed pages in memory", found)
            .at(&self.path)
            .or_else_try("restore the file, and open it again")
    }
}
