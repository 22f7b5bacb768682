//! Loads rows of a source into buffers.

use super::{Place, Source, SourceState};
use crate::error::Result;
use crate::geometry::{ByteRuns, to_pages};
use crate::io::{MAX_READ_GAP_BYTES, grow};
use crate::stream::layout::{BlockLayout, rows_are_outermost};
use crate::stream::reader::{Batches, Reader, Run};
use crate::stream::stage::{
    Element, assign, items, items_mut, row_bytes_of, row_slice, slice_rows, view_of_mut,
};
use crate::sys::page_bytes;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension};
use std::any::TypeId;
use std::ops::Range;

/// A row that has at most this many bytes, including the gaps between its elements, is read together with the gaps.
const SMALL_ROW_BYTES: usize = 256 << 10;

/// The maximum number of runs of contiguous bytes in one list of runs to read. The list needs 24 bytes for each run.
const RUNS_AT_ONCE: usize = 1 << 16;

impl<'a, T: Element, D: Dimension> Source<'a, T, D> {
    /// Returns whether the rows are interleaved in the file, so that each block of rows is scattered over the whole
    /// file.
    pub(super) fn is_scattered(&self) -> bool {
        !rows_are_outermost(self.view.shape(), self.view.strides())
    }

    /// Returns the size of the largest gap between elements that is read together with the elements. Returns zero if a
    /// row with its gaps would need much more memory than without them.
    fn max_gap_bytes(&self) -> usize {
        let row = self.loaded_shape(1);
        let spanned = ByteRuns::of_view(row.slice(), self.view.strides(), size_of::<T>()).0.hull().len();
        let is_dense = spanned <= row_bytes_of::<T, D>(&row).saturating_mul(2).max(SMALL_ROW_BYTES);
        match self.place {
            Place::File { .. } if is_dense && !self.is_scattered() => MAX_READ_GAP_BYTES,
            _ => 0,
        }
    }

    /// Returns the first of these rows that may have bytes other than zero in the file, as
    /// [`Stage::next_data`](crate::stream::Stage::next_data) does. If the rows do not lie one after the other in the
    /// file, all rows count as data.
    pub(super) fn next_data_in(
        &self,
        reader: &Reader,
        bytes: &Range<u64>,
        rows: Range<usize>,
    ) -> Result<Range<usize>> {
        let (Some(&stride), Some(&count)) = (self.view.strides().first(), self.view.shape().first()) else {
            return Ok(rows);
        };
        let Ok(pitch) = u64::try_from(stride * size_of::<T>() as isize) else { return Ok(rows) };
        let row_len = (bytes.end - bytes.start).saturating_sub(pitch * (count.max(1) as u64 - 1));
        if pitch == 0 || row_len > pitch || self.is_scattered() {
            return Ok(rows);
        }
        let searched =
            bytes.start + rows.start as u64 * pitch..bytes.end.min(bytes.start + rows.end as u64 * pitch);
        let data = reader.next_data(searched)?;
        if data.is_empty() {
            return Ok(rows.end..rows.end);
        }
        let row_of = |offset: u64| (offset - bytes.start) / pitch;
        Ok(row_of(data.start) as usize..(row_of(data.end - 1) as usize + 1).min(rows.end))
    }

    /// Returns the layout of one row of the view.
    pub(super) fn row_layout(&self) -> BlockLayout {
        let strides = self.view.strides();
        BlockLayout::new(self.loaded_shape(1).slice(), strides, size_of::<T>(), self.max_gap_bytes())
    }

    /// Returns the layout of a block of consecutive rows, and the distance from the lowest byte of the view to the
    /// lowest byte of the block.
    fn block_layout(&self, rows: &Range<usize>) -> (BlockLayout, u64) {
        let all = &self.view;
        let block = slice_rows(all, rows);
        let layout = BlockLayout::new(block.shape(), block.strides(), size_of::<T>(), self.max_gap_bytes());
        let (_, above_bytes) = ByteRuns::of_view(all.shape(), all.strides(), size_of::<T>());
        let lowest_of_all = all.as_ptr() as usize - above_bytes;
        let lowest = block.as_ptr() as usize - layout.above_bytes();
        (layout, (lowest - lowest_of_all) as u64)
    }

    /// Returns the layout of a block of `rows` rows: listed rows if the source has a list, and otherwise the first rows
    /// of the view.
    fn first_rows_layout(&self, rows: usize) -> BlockLayout {
        match self.list {
            Some(_) => self.row_layout().stacked(rows),
            None => self.block_layout(&(0..rows)).0,
        }
    }

    /// Returns how many bytes of the buffer each additional row needs.
    pub(super) fn loaded_row_bytes(&self) -> usize {
        let one = self.first_rows_layout(1).buffer_bytes();
        if self.list.is_some() || self.view.shape().first().is_none_or(|&rows| rows < 2) {
            return one;
        }
        let further = self.first_rows_layout(2).buffer_bytes().saturating_sub(one);
        // If all rows are the same row of the file, each block reads this row once.
        if further == 0 { one } else { further }
    }

    /// Returns whether blocks are loaded from the file in standard layout.
    pub(super) fn loads_standard_layout(&self) -> bool {
        let rows =
            if self.list.is_some() { 2 } else { self.view.shape().first().map_or(1, |&rows| rows.min(2)) };
        self.first_rows_layout(rows).is_standard(self.loaded_shape(rows).slice())
    }

    /// Returns the bytes of a block that is contiguous in a file, if its elements are numbers of a primitive type. The
    /// operations of another type can call functions of the crate's user.
    pub(super) fn run_of_numbers(&self, rows: &Range<usize>) -> Option<(&Reader, Range<u64>)> {
        let (Place::File { reader, bytes }, None, true, true) =
            (&self.place, &self.list, self.kept.is_empty(), is_primitive::<T>())
        else {
            return None;
        };
        let (layout, above) = self.block_layout(rows);
        let start = bytes.start + above;
        layout.is_one_run().then(|| (reader, start..start + layout.runs().run_bytes() as u64))
    }

    fn load_block(
        &self,
        reader: &Reader,
        lowest: u64,
        state: &mut SourceState,
        rows: &Range<usize>,
    ) -> Result<()> {
        let (layout, above) = self.block_layout(rows);
        let start = lowest + above;
        let len = layout.runs().run_bytes();
        if layout.is_one_run() {
            let bytes = start..start + len as u64;
            let pages = to_pages(bytes.clone(), page_bytes());
            state.lead = (start - pages.start) as usize;
            let buffer = grow(&mut state.rows, (pages.end - pages.start) as usize)?;
            return reader.read_span(buffer, &bytes);
        }
        let run_at =
            |index| Run { offset: start + layout.runs().run_start(index) as u64, at: index * len, len };
        state.lead = 0;
        let SourceState { rows, runs, batches, .. } = state;
        let buffer = grow(rows, layout.buffer_bytes())?.bytes_mut();
        in_groups(layout.runs().count_runs(), run_at, runs, |runs| reader.read_runs(buffer, runs, batches))
    }

    /// Reads the listed rows to a buffer, one after the other.
    pub(super) fn read_list(
        &self,
        reader: &Reader,
        lowest: u64,
        list: &[usize],
        buffer: &mut [u8],
        (runs, batches): (&mut Vec<Run>, &mut Batches),
    ) -> Result<()> {
        let layout = self.row_layout();
        let stride = self.view.strides()[0] * size_of::<T>() as isize;
        let rows = self.view.len_of(Axis(0));
        let row_runs = layout.runs();
        let (pitch, len, per_row) = (layout.buffer_bytes(), row_runs.run_bytes(), row_runs.count_runs());
        let scattered = self.is_scattered();
        let run_at = |index: usize| {
            // Runs of bytes that are read together should be close to each other in the file. If each row is compact,
            // all runs of a row are read together. If rows are scattered over the file, the first runs of all rows are
            // read together, then the second runs of all rows, and so on.
            let (place, run) = match scattered {
                true => (index % list.len(), index / list.len()),
                false => (index / per_row, index % per_row),
            };
            // If axis 0 is reversed, the last row has the lowest offset in the file.
            let row = if stride < 0 { rows - 1 - list[place] } else { list[place] };
            let offset = lowest + (row * stride.unsigned_abs() + row_runs.run_start(run)) as u64;
            Run { offset, at: place * pitch + run * len, len }
        };
        in_groups(list.len() * per_row, run_at, runs, |runs| reader.read_runs(buffer, runs, batches))
    }

    /// Copies the listed rows from memory.
    fn gather(&self, list: &[usize], mut out: ArrayViewMut<'_, T, D>) {
        for (place, &row) in list.iter().enumerate() {
            let from = slice_rows(&self.view, &(row..row + 1));
            assign(&from, out.slice_axis_mut(Axis(0), row_slice(&(place..place + 1))));
        }
    }

    /// Loads rows into the state, with all indices of the other axes. Rows in memory are loaded only if the source has
    /// a list of rows.
    pub(super) fn load_rows(&self, state: &mut SourceState, rows: &Range<usize>) -> Result<()> {
        let list = self.list.as_ref().map(|list| &list[rows.clone()]);
        match (&self.place, list) {
            (Place::Memory, None) => Ok(()),
            (Place::File { reader, bytes }, None) => self.load_block(reader, bytes.start, state, rows),
            (Place::Memory, Some(list)) => {
                let shape = self.loaded_shape(list.len());
                let count = shape.size();
                state.lead = 0;
                let buffer = grow(&mut state.rows, count.saturating_mul(size_of::<T>()))?;
                self.gather(list, view_of_mut(items_mut(buffer, 0, count), shape));
                Ok(())
            }
            (Place::File { reader, bytes }, Some(list)) => {
                state.lead = 0;
                let SourceState { rows, runs, batches, .. } = state;
                let buffer = grow(rows, self.row_layout().stacked(list.len()).buffer_bytes())?.bytes_mut();
                self.read_list(reader, bytes.start, list, buffer, (runs, batches))
            }
        }
    }

    /// Returns the rows that [`load_rows`](Self::load_rows) has loaded.
    pub(super) fn loaded<'s>(&'s self, state: &'s SourceState, rows: &Range<usize>) -> ArrayView<'s, T, D> {
        let shape = self.loaded_shape(rows.len());
        let buffer = match (&self.place, &state.rows) {
            (Place::Memory, _) if self.list.is_none() => return slice_rows(&self.view, rows),
            (_, Some(buffer)) => buffer,
            (_, None) => {
                return ArrayView::from_shape(shape, &[]).expect("a block without elements has no buffer");
            }
        };
        let layout = match (&self.place, &self.list) {
            (Place::File { .. }, None) => self.block_layout(rows).0,
            (Place::File { .. }, Some(_)) => self.row_layout().stacked(rows.len()),
            (Place::Memory, _) => {
                let count = shape.size();
                return ArrayView::from_shape(shape, items(buffer, state.lead, count))
                    .expect("gathered rows are in C order");
            }
        };
        let count = layout.buffer_bytes() / size_of::<T>().max(1);
        layout.view(shape, items(buffer, state.lead, count))
    }

    /// Returns whether listed rows can be read from the file directly to `out`.
    pub(super) fn gathers_straight_to(&self, out: &ArrayViewMut<'_, T, D>) -> bool {
        let layout = self.row_layout();
        let row = self.loaded_shape(1);
        let in_c_order = layout.is_one_run() && layout.buffer_bytes() == row_bytes_of::<T, D>(&row);
        self.kept.is_empty() && in_c_order && out.is_standard_layout() && {
            let view = slice_rows(&self.view, &(0..1));
            view.is_standard_layout()
        }
    }
}

/// Calls `read` for `count` numbered runs. The runs are divided into groups, so that the list of runs needs little
/// memory.
fn in_groups(
    count: usize,
    run_at: impl Fn(usize) -> Run,
    runs: &mut Vec<Run>,
    mut read: impl FnMut(&mut Vec<Run>) -> Result<()>,
) -> Result<()> {
    (0..count).step_by(RUNS_AT_ONCE).try_for_each(|first| {
        runs.clear();
        runs.extend((first..count.min(first + RUNS_AT_ONCE)).map(&run_at));
        read(runs)
    })
}

/// Returns whether `T` is a primitive number.
fn is_primitive<T: 'static>() -> bool {
    macro_rules! is_any {
        ($($number:ty)*) => { [$(TypeId::of::<$number>()),*].contains(&TypeId::of::<T>()) };
    }
    is_any!(f32 f64 i8 u8 i16 u16 i32 u32 i64 u64 i128 u128 isize usize)
}
