//! The changed pages of copy-on-write mappings: finding and copying these pages.

use super::Mapping;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::{merged, to_pages};
use crate::sys::{self, page_bytes};
use std::io;
use std::ops::Range;

impl Mapping {
    /// Returns the parts of a range of the file for which this copy-on-write mapping has changed pages. The parts lie
    /// within the range and within the mapping. If the system does not report the changed pages, returns the whole
    /// range.
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

    /// Copies bytes of this copy-on-write mapping to a buffer. `offset` is the position of the first byte in the file.
    /// If the file was truncated and a page is missing, returns an error; no signal ends the process.
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
            .with_remedy("restore the file, and open it again")
    }
}
