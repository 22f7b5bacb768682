//! Getting rows of a source into buffers: where they lie, in what order they are read, and how they lie then.

use super::{Place, Source, SourceState};
use crate::error::Result;
use crate::geometry::to_pages;
use crate::stream::layout::{REACH_BYTES, RunLayout, rows_are_outermost};
use crate::stream::reader::{Batches, Reader, Run};
use crate::stream::stage::{Element, grow, items, items_mut, slice_rows, view_of_mut};
use crate::sys::page_bytes;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Slice};
use std::ops::Range;

/// A row that spans no more than this is read with all its gaps.
const SMALL_ROW_BYTES: usize = 256 << 10;

/// How many runs are read together at most, whose places take 24 bytes each.
const RUNS_AT_ONCE: usize = 1 << 16;

impl<'a, T: Element, D: Dimension> Source<'a, T, D> {
    /// Whether the rows interlock in the file, so that each block of them is spread over all of it.
    pub(super) fn is_scattered(&self) -> bool {
        !rows_are_outermost(self.view.shape(), self.view.strides())
    }

    /// How large a gap between elements is kept in the buffer: none where a row would take much more memory by it.
    fn reach_bytes(&self) -> usize {
        let row = self.loaded_shape(1);
        let spanned = hull_bytes(row.slice(), self.view.strides(), size_of::<T>());
        let is_dense = spanned <= (row.size() * size_of::<T>()).saturating_mul(2).max(SMALL_ROW_BYTES);
        match self.place {
            Place::File { .. } if is_dense && !self.is_scattered() => REACH_BYTES,
            _ => 0,
        }
    }

    /// The layout of one row of the view, without its distance to the next.
    pub(super) fn row_layout(&self) -> RunLayout {
        let view = &self.view;
        RunLayout::new(self.loaded_shape(1).slice(), view.strides(), size_of::<T>(), self.reach_bytes())
    }

    /// The layout of a block of consecutive rows, and the offset of its lowest byte in the file.
    pub(super) fn block_layout(&self, lowest: u64, rows: &Range<usize>) -> (RunLayout, u64) {
        let all = &self.view;
        let block = slice_rows(all, rows);
        let layout = RunLayout::new(block.shape(), block.strides(), size_of::<T>(), self.reach_bytes());
        let first_of_all = all.as_ptr() as usize - above_bytes(all.shape(), all.strides(), size_of::<T>());
        let first = block.as_ptr() as usize - layout.above_bytes();
        (layout, lowest + (first - first_of_all) as u64)
    }

    fn load_block(
        &self,
        reader: &Reader,
        lowest: u64,
        state: &mut SourceState,
        rows: &Range<usize>,
    ) -> Result<()> {
        let (layout, start) = self.block_layout(lowest, rows);
        if layout.is_one_run() {
            let bytes = start..start + layout.run_bytes() as u64;
            let pages = to_pages(bytes.clone(), page_bytes());
            state.lead = (start - pages.start) as usize;
            let buffer = grow(&mut state.rows, (pages.end - pages.start) as usize)?;
            return reader.read_span(buffer, &bytes);
        }
        let len = layout.run_bytes();
        let run_at = |index| Run { offset: start + layout.run_start(index) as u64, at: index * len, len };
        state.lead = 0;
        let SourceState { rows, runs, batches, .. } = state;
        let buffer = grow(rows, layout.buffer_bytes())?.bytes_mut();
        in_groups(layout.count_runs(), run_at, runs, |runs| reader.read_runs(buffer, runs, batches))
    }

    /// Reads the listed rows to a buffer that holds row behind row.
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
        let (pitch, len, per_row) = (layout.buffer_bytes(), layout.run_bytes(), layout.count_runs());
        let scattered = self.is_scattered();
        let run_at = |index: usize| {
            // What is read together should lie together: all runs of a row, or the same run of all rows.
            let (place, run) = match scattered {
                true => (index % list.len(), index / list.len()),
                false => (index / per_row, index % per_row),
            };
            // Of an inverted axis, the last row is the lowest.
            let row = if stride < 0 { rows - 1 - list[place] } else { list[place] };
            let offset = lowest + (row * stride.unsigned_abs() + layout.run_start(run)) as u64;
            Run { offset, at: place * pitch + run * len, len }
        };
        in_groups(list.len() * per_row, run_at, runs, |runs| reader.read_runs(buffer, runs, batches))
    }

    /// Gathers listed rows from memory.
    fn gather(&self, list: &[usize], mut out: ArrayViewMut<'_, T, D>) {
        let view = &self.view;
        for (place, &row) in list.iter().enumerate() {
            let from = view.slice_axis(Axis(0), Slice::new(row as isize, Some(row as isize + 1), 1));
            out.slice_axis_mut(Axis(0), Slice::new(place as isize, Some(place as isize + 1), 1))
                .assign(&from);
        }
    }

    /// Gets rows into the state as they are in the array, with every index of the other axes.
    pub(super) fn load_rows(&self, state: &mut SourceState, rows: &Range<usize>) -> Result<()> {
        let list = self.list.as_ref().map(|list| &list[rows.clone()]);
        match (&self.place, list) {
            (Place::Memory, None) => Ok(()),
            (Place::File { reader, lowest }, None) => self.load_block(reader, *lowest, state, rows),
            (Place::Memory, Some(list)) => {
                let shape = self.loaded_shape(list.len());
                let count = shape.size();
                state.lead = 0;
                let buffer = grow(&mut state.rows, count * size_of::<T>())?;
                self.gather(list, view_of_mut(items_mut(buffer, 0, count), shape));
                Ok(())
            }
            (Place::File { reader, lowest }, Some(list)) => {
                state.lead = 0;
                let SourceState { rows, runs, batches, .. } = state;
                let buffer = grow(rows, list.len() * self.row_layout().buffer_bytes())?.bytes_mut();
                self.read_list(reader, *lowest, list, buffer, (runs, batches))
            }
        }
    }

    /// What `load_rows` got.
    pub(super) fn loaded<'s>(&'s self, state: &'s SourceState, rows: &Range<usize>) -> ArrayView<'s, T, D> {
        let shape = self.loaded_shape(rows.len());
        let buffer = match (&self.place, &state.rows) {
            (Place::Memory, _) if self.list.is_none() => return slice_rows(&self.view, rows),
            (_, Some(buffer)) => buffer,
            (_, None) => {
                return ArrayView::from_shape(shape, &[]).expect("only blocks of nothing need no buffer");
            }
        };
        let layout = match (&self.place, &self.list) {
            (Place::File { lowest, .. }, None) => self.block_layout(*lowest, rows).0,
            (Place::File { .. }, Some(_)) => self.row_layout().stacked(rows.len(), size_of::<T>()),
            (Place::Memory, _) => {
                let count = shape.size();
                return ArrayView::from_shape(shape, items(buffer, state.lead, count))
                    .expect("gathered rows are in C order");
            }
        };
        let count = layout.buffer_bytes() / size_of::<T>().max(1);
        layout.view(shape, items(buffer, state.lead, count))
    }

    /// Whether rows that were listed go to `out` as they lie in the file.
    pub(super) fn gathers_straight_to(&self, out: &ArrayViewMut<'_, T, D>) -> bool {
        let layout = self.row_layout();
        let row = self.loaded_shape(1);
        let in_c_order = layout.is_one_run() && layout.run_bytes() == row.size() * size_of::<T>();
        self.kept.is_empty() && in_c_order && out.is_standard_layout() && {
            let view = slice_rows(&self.view, &(0..1));
            view.is_standard_layout()
        }
    }
}

/// Hands out numbered runs, so many at a time that their places take little memory.
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

/// How far a view's first element lies above its lowest one.
fn above_bytes(shape: &[usize], strides: &[isize], item_bytes: usize) -> usize {
    let inverted = shape.iter().zip(strides).filter(|(len, stride)| **len > 0 && **stride < 0);
    inverted.map(|(len, stride)| (len - 1) * stride.unsigned_abs() * item_bytes).sum()
}

/// From the lowest byte of a view to the end of its highest element.
pub(super) fn hull_bytes(shape: &[usize], strides: &[isize], item_bytes: usize) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    let reach: usize = shape.iter().zip(strides).map(|(len, stride)| (len - 1) * stride.unsigned_abs()).sum();
    (reach + 1) * item_bytes
}
