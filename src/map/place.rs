//! Where rows and views lie in the file of a mapping.

use super::Mapping;
use crate::geometry::{ByteRuns, merged, to_pages};
use crate::sys::page_bytes;
use ndarray::{ArrayRef, Dimension};
use std::ops::Range;

impl Mapping {
    /// Where runs of bytes, relative to the start of the data, lie in the file.
    pub(crate) fn in_file(&self, runs: ByteRuns) -> impl Iterator<Item = Range<u64>> + Clone + use<> {
        let start = self.file_bytes.start;
        runs.map(move |run| start + run.start as u64..start + run.end as u64)
    }

    /// The whole pages of the file that hold runs of bytes, each page once.
    pub(crate) fn pages_in_file(&self, runs: ByteRuns) -> impl Iterator<Item = Range<u64>> + Clone + use<> {
        let runs = self.in_file(runs.joined_to_pages(page_bytes()));
        merged(runs.map(|run| to_pages(run, page_bytes())))
    }

    /// The bytes of a view of this memory, relative to the start of the data.
    pub(crate) fn runs_of<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> ByteRuns {
        let (runs, above) = ByteRuns::of_view(view.shape(), view.strides(), size_of::<T>());
        runs.moved_up(view.as_ptr() as usize - above - self.addresses().start)
    }

    /// Where a view of this memory lies in the file, from its first byte to its last.
    pub(crate) fn place_of<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> Range<u64> {
        let hull = self.runs_of(view).hull();
        self.file_bytes.start + hull.start as u64..self.file_bytes.start + hull.end as u64
    }

    /// The part of the memory that maps a range of the file.
    pub(super) fn local(&self, file_range: &Range<u64>) -> Range<usize> {
        let mapped = &self.file_bytes;
        let start = file_range.start.clamp(mapped.start, mapped.end) - mapped.start;
        let end = file_range.end.clamp(mapped.start, mapped.end) - mapped.start;
        start as usize..end.max(start) as usize // both at most the mapped length, a usize
    }
}
