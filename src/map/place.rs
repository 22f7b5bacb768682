//! The positions of rows and views in the file of a mapping.

use super::Mapping;
use crate::geometry::{ByteRuns, merged, to_pages};
use crate::sys::page_bytes;
use ndarray::{ArrayRef, Dimension};
use std::ops::Range;

impl Mapping {
    /// Converts runs of bytes, which are relative to the start of the data, to ranges of the file.
    pub(crate) fn in_file(&self, runs: ByteRuns) -> impl Iterator<Item = Range<u64>> + Clone + use<> {
        let start = self.file_bytes.start;
        runs.map(move |run| start + run.start as u64..start + run.end as u64)
    }

    /// Returns the pages of the file that contain bytes of `runs`, as ranges of whole pages. Each page appears once.
    pub(crate) fn pages_in_file(&self, runs: ByteRuns) -> impl Iterator<Item = Range<u64>> + Clone + use<> {
        let runs = self.in_file(runs.joined_to_pages(page_bytes()));
        merged(runs.map(|run| to_pages(run, page_bytes())))
    }

    /// Returns the ranges of the file that contain `runs`. Neighbouring runs of bytes are joined to one range if no
    /// whole page is between them.
    pub(super) fn parts_in_file(&self, runs: ByteRuns) -> impl Iterator<Item = Range<u64>> + Clone + use<> {
        merged(self.in_file(runs.joined_to_pages(page_bytes())))
    }

    /// Returns the part of the file that contains the first run.
    pub(super) fn first_in_file(&self, runs: &ByteRuns) -> Range<u64> {
        let start = self.file_bytes.start + runs.hull().start as u64;
        start..start + runs.run_bytes() as u64
    }

    /// Returns the bytes of a view of this memory, relative to the start of the data.
    pub(crate) fn runs_of<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> ByteRuns {
        let (runs, above) = ByteRuns::of_view(view.shape(), view.strides(), size_of::<T>());
        runs.moved_up(view.as_ptr() as usize - above - self.addresses().start)
    }

    /// Returns the range of the file from the first byte of a view of this memory to its last byte.
    pub(crate) fn place_of<T, D: Dimension>(&self, view: &ArrayRef<T, D>) -> Range<u64> {
        self.hull_in_file(&self.runs_of(view))
    }

    /// Returns the range of the file from the first byte of the runs to the last byte.
    pub(crate) fn hull_in_file(&self, runs: &ByteRuns) -> Range<u64> {
        let hull = runs.hull();
        self.file_bytes.start + hull.start as u64..self.file_bytes.start + hull.end as u64
    }

    /// Returns the whole pages of the file that contain data of the mapping.
    pub(super) fn pages(&self) -> Range<u64> {
        to_pages(self.file_bytes.clone(), page_bytes())
    }

    /// Returns the part of the memory that maps a range of the file.
    pub(super) fn local(&self, file_range: &Range<u64>) -> Range<usize> {
        let mapped = &self.file_bytes;
        let start = file_range.start.clamp(mapped.start, mapped.end) - mapped.start;
        let end = file_range.end.clamp(mapped.start, mapped.end) - mapped.start;
        start as usize..end.max(start) as usize // both are at most the mapped length, which fits `usize`
    }
}
