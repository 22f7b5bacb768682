//! [`Source`]: rows of an array, in a file or in memory, all of them or a selection.

use super::layout::{REACH_BYTES, RunLayout, rows_are_outermost};
use super::probe;
use super::reader::{Batches, Reader, Run};
use super::rows::{RowRange, as_slice, check_indices, clamped};
use super::select::select_into;
use super::stage::sealed::Sealed;
use super::stage::{
    BlockBuffer, Choices, Element, RowBytes, Stage, Whole, grow, items, items_mut, row_bytes_of, rows_of,
    slice_rows, view_of_mut, with_rows,
};
use crate::access::AccessMode;
use crate::array::Placed;
use crate::error::{Error, ErrorKind, Result};
use crate::geometry::to_pages;
use crate::sys::{AlignedBuf, page_bytes};
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Slice};
use std::borrow::Cow;
use std::ops::Range;

/// The rows of an array: the first step of every pipeline.
#[derive(Debug)]
pub struct Source<'a, T, D: Dimension> {
    view: ArrayView<'a, T, D>,
    /// What was wrong with the source, or first with a selection.
    failed: Option<Error>,
    /// Rows of the view, in this order; all of them if `None`.
    list: Option<Cow<'a, [usize]>>,
    /// Which indices of which axes above 0 to keep, where they make no slice.
    kept: Vec<(Axis, Vec<usize>)>,
    place: Place,
}

/// Where the view's elements are.
#[derive(Debug, Default)]
enum Place {
    #[default]
    Memory,
    /// In a file, the view's lowest element at byte `lowest`.
    File { reader: Reader, lowest: u64 },
}

/// What one thread needs to load rows.
#[derive(Debug, Default)]
pub struct SourceState {
    rows: Option<AlignedBuf>,
    /// Where in `rows` the block's lowest element is.
    lead: usize,
    batches: Batches,
    runs: Vec<Run>,
    selected: BlockBuffer,
}

impl<'a, T: Element, D: Dimension> Source<'a, T, D> {
    pub(super) fn new(view: ArrayView<'a, T, D>) -> Self {
        Self { view, failed: None, list: None, kept: Vec::new(), place: Place::Memory }
    }

    /// The same, of an array that may have been closed.
    pub(super) fn checked(view: ArrayView<'a, T, D>, checked: Result<()>) -> Self {
        Self { failed: checked.err(), ..Self::new(view) }
    }

    /// Takes a selection, unless an earlier one failed: the first error is the one that is reported.
    fn take(&mut self, selection: impl FnOnce(&mut Self) -> Result<()>) {
        if self.failed.is_none() {
            self.failed = selection(self).err();
        }
    }

    pub(super) fn narrow_rows(&mut self, range: &impl RowRange) {
        self.take(|source| {
            let slice = range.to_slice()?;
            match &mut source.list {
                None => slice_axis(&mut source.view, Axis(0), slice),
                Some(list) => {
                    let slice = clamped(slice, list.len())?;
                    *list = ndarray::aview1(list).slice_axis(Axis(0), slice).to_vec().into();
                    Ok(())
                }
            }
        });
    }

    pub(super) fn pick_rows(&mut self, indices: &'a [usize]) {
        self.take(|source| {
            need_axis(&source.view, Axis(0))?;
            let rows = source.list.as_ref().map_or(source.view.len_of(Axis(0)), |list| list.len());
            check_indices(indices, 0, rows)?;
            match (&source.list, as_slice(indices)) {
                (None, Some(slice)) => return slice_axis(&mut source.view, Axis(0), slice),
                (None, None) => source.list = Some(indices.into()),
                (Some(list), _) => source.list = Some(indices.iter().map(|&index| list[index]).collect()),
            }
            Ok(())
        });
    }

    pub(super) fn pick(&mut self, axis: Axis, indices: &'a [usize]) {
        if axis.index() == 0 {
            return self.pick_rows(indices);
        }
        self.take(|source| {
            need_axis(&source.view, axis)?;
            let earlier = source.kept.iter_mut().find(|(kept, _)| *kept == axis);
            let len = earlier.as_ref().map_or(source.view.len_of(axis), |(_, kept)| kept.len());
            check_indices(indices, axis.index(), len)?;
            match (earlier, as_slice(indices)) {
                (Some((_, kept)), _) => *kept = indices.iter().map(|&index| kept[index]).collect(),
                (None, Some(slice)) => slice_axis(&mut source.view, axis, slice)?,
                (None, None) => source.kept.push((axis, indices.to_vec())),
            }
            Ok(())
        });
    }

    /// The shape before the selection along other axes than 0.
    fn loaded_shape(&self, rows: usize) -> D {
        with_rows(&self.view.raw_dim(), rows)
    }

    /// The shape of a block as it is handed out.
    fn block_shape(&self, rows: usize) -> D {
        self.select_shape(self.loaded_shape(rows))
    }

    fn select_shape(&self, mut shape: D) -> D {
        for (axis, kept) in &self.kept {
            shape[axis.index()] = kept.len();
        }
        shape
    }

    /// Where the elements are in a file, if they are.
    fn in_file(&self) -> Option<(&Reader, Range<u64>)> {
        match &self.place {
            Place::Memory => None,
            Place::File { reader, lowest } => {
                let view = &self.view;
                let hull = hull_bytes(view.shape(), view.strides(), size_of::<T>()) as u64;
                Some((reader, *lowest..*lowest + hull))
            }
        }
    }

    /// How large a gap is read along.
    fn reach_bytes(&self) -> usize {
        match self.place {
            Place::Memory => 0,
            Place::File { .. } if rows_are_outermost(self.view.shape(), self.view.strides()) => REACH_BYTES,
            Place::File { .. } => 0,
        }
    }

    /// The layout of one row of the view, without its distance to the next.
    fn row_layout(&self) -> RunLayout {
        let view = &self.view;
        RunLayout::new(self.loaded_shape(1).slice(), view.strides(), size_of::<T>(), self.reach_bytes())
    }

    /// The layout of a block of consecutive rows, and the offset of its lowest byte in the file.
    fn block_layout(&self, lowest: u64, rows: &Range<usize>) -> (RunLayout, u64) {
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
        let run = layout.run_bytes();
        let place =
            |(index, above): (usize, usize)| Run { offset: start + above as u64, at: index * run, len: run };
        state.lead = 0;
        state.batches.reach_bytes = self.reach_bytes() as u64;
        state.runs.clear();
        state.runs.extend(layout.run_starts().enumerate().map(place));
        let buffer = grow(&mut state.rows, layout.buffer_bytes())?;
        reader.read_runs(buffer.bytes_mut(), &mut state.runs, &mut state.batches)
    }

    /// Notes where each of the listed rows lies, and where it goes in a buffer that holds row behind row.
    fn list_runs(&self, lowest: u64, list: &[usize], runs: &mut Vec<Run>) {
        let layout = self.row_layout();
        let view = &self.view;
        let stride = view.strides()[0] * size_of::<T>() as isize;
        let rows = view.len_of(Axis(0));
        let (pitch, len) = (layout.buffer_bytes(), layout.run_bytes());
        runs.clear();
        for (place, &row) in list.iter().enumerate() {
            // Of an inverted axis, the last row is the lowest.
            let above = if stride < 0 { rows - 1 - row } else { row } * stride.unsigned_abs();
            runs.extend(layout.run_starts().enumerate().map(|(index, start)| Run {
                offset: lowest + (above + start) as u64,
                at: place * pitch + index * len,
                len,
            }));
        }
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
    fn load_rows(&self, state: &mut SourceState, rows: &Range<usize>) -> Result<()> {
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
                self.list_runs(*lowest, list, &mut state.runs);
                state.batches.reach_bytes = self.reach_bytes() as u64;
                state.lead = 0;
                let buffer = grow(&mut state.rows, list.len() * self.row_layout().buffer_bytes())?;
                reader.read_runs(buffer.bytes_mut(), &mut state.runs, &mut state.batches)
            }
        }
    }

    /// What `load_rows` got.
    fn loaded<'s>(&'s self, state: &'s SourceState, rows: &Range<usize>) -> ArrayView<'s, T, D> {
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
    fn gathers_straight_to(&self, out: &ArrayViewMut<'_, T, D>) -> bool {
        let layout = self.row_layout();
        let row = self.loaded_shape(1);
        let in_c_order = layout.is_one_run() && layout.run_bytes() == row.size() * size_of::<T>();
        self.kept.is_empty() && in_c_order && out.is_standard_layout() && {
            let view = slice_rows(&self.view, &(0..1));
            view.is_standard_layout()
        }
    }
}

fn need_axis<T, D: Dimension>(view: &ArrayView<'_, T, D>, axis: Axis) -> Result<()> {
    if axis.index() < view.ndim() {
        return Ok(());
    }
    let found = format!("an array of {} dimensions", view.ndim());
    Err(Error::new(
        ErrorKind::OutOfBounds,
        "stream",
        format!("an array that has axis {}", axis.index()),
        found,
    ))
}

fn slice_axis<T, D: Dimension>(view: &mut ArrayView<'_, T, D>, axis: Axis, slice: Slice) -> Result<()> {
    need_axis(view, axis)?;
    let slice = clamped(slice, view.len_of(axis))?;
    view.slice_axis_inplace(axis, slice);
    Ok(())
}

/// How far a view's first element lies above its lowest one.
fn above_bytes(shape: &[usize], strides: &[isize], item_bytes: usize) -> usize {
    let inverted = shape.iter().zip(strides).filter(|(len, stride)| **len > 0 && **stride < 0);
    inverted.map(|(len, stride)| (len - 1) * stride.unsigned_abs() * item_bytes).sum()
}

/// From the lowest byte of a view to the end of its highest element.
fn hull_bytes(shape: &[usize], strides: &[isize], item_bytes: usize) -> usize {
    if shape.contains(&0) {
        return 0;
    }
    let reach: usize = shape.iter().zip(strides).map(|(len, stride)| (len - 1) * stride.unsigned_abs()).sum();
    (reach + 1) * item_bytes
}

impl<T, D: Dimension> Sealed for Source<'_, T, D> {}

impl<T: Element, D: Dimension> Stage for Source<'_, T, D> {
    type Item = T;
    type Dim = D;
    type State = SourceState;

    fn shape(&self) -> D {
        let rows = self.list.as_ref().map_or(rows_of(&self.view.raw_dim()), |list| list.len());
        self.block_shape(rows)
    }

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let view = &self.view;
        let repeats = view.shape().iter().zip(view.strides()).any(|(&len, &stride)| len > 1 && stride == 0);
        let placed = Placed::find(view).filter(|_| !repeats);
        // A private copy differs from its file.
        let is_readable =
            |placed: &Placed| placed.mapping.access() != AccessMode::CopyOnWrite || probe::can_copy_memory();
        let Some(placed) = placed.filter(is_readable) else { return Ok(()) };
        let hull = placed.runs.hull();
        let start = placed.mapping.file_bytes().start;
        let bytes = start + hull.start as u64..start + hull.end as u64;
        let reader = Reader::new(placed.mapping, &bytes, choices.transfer);
        self.place = Place::File { reader, lowest: bytes.start };
        Ok(())
    }

    fn row_bytes(&self) -> RowBytes {
        let selected = RowBytes::default();
        let loaded = match (&self.place, &self.list) {
            (Place::Memory, None) => selected,
            (Place::Memory, Some(_)) => selected.and(row_bytes_of::<T, D>(&self.loaded_shape(1))),
            (Place::File { .. }, Some(_)) => selected.and(self.row_layout().buffer_bytes()),
            (Place::File { .. }, None) => {
                let rows = rows_of(&self.view.raw_dim());
                let one = self.block_layout(0, &(0..1.min(rows))).0.buffer_bytes();
                let two = self.block_layout(0, &(0..2.min(rows))).0.buffer_bytes();
                let scattered = !rows_are_outermost(self.view.shape(), self.view.strides());
                RowBytes { scattered, ..selected.and(if rows > 1 { two - one } else { one }) }
            }
        };
        if self.kept.is_empty() { loaded } else { loaded.and(row_bytes_of::<T, D>(&self.block_shape(1))) }
    }

    fn is_warm(&self) -> bool {
        self.in_file().is_none_or(|(reader, bytes)| probe::is_warm(reader.mapping().file(), &bytes))
    }

    fn load(&self, state: &mut SourceState, rows: Range<usize>) -> Result<()> {
        self.load_rows(state, &rows)?;
        if self.kept.is_empty() {
            return Ok(());
        }
        let mut selected = std::mem::take(&mut state.selected);
        let room = selected.view_mut(self.block_shape(rows.len()))?;
        select_into(self.loaded(state, &rows), &self.kept, room);
        state.selected = selected;
        Ok(())
    }

    fn view<'s>(&'s self, state: &'s SourceState, rows: Range<usize>) -> ArrayView<'s, T, D> {
        match self.kept.is_empty() {
            true => self.loaded(state, &rows),
            false => state.selected.view(self.block_shape(rows.len())),
        }
    }

    fn fill(
        &self,
        state: &mut SourceState,
        rows: Range<usize>,
        mut out: ArrayViewMut<'_, T, D>,
    ) -> Result<()> {
        if let (Place::File { reader, lowest }, Some(list)) = (&self.place, &self.list) {
            if self.gathers_straight_to(&out) {
                self.list_runs(*lowest, &list[rows], &mut state.runs);
                state.batches.reach_bytes = self.reach_bytes() as u64;
                let out = out.as_slice_mut().expect("it is in C order, as was asked");
                return reader.read_runs(bytemuck::cast_slice_mut(out), &mut state.runs, &mut state.batches);
            }
        }
        self.load_rows(state, &rows)?;
        select_into(self.loaded(state, &rows), &self.kept, out);
        Ok(())
    }

    fn whole(&self) -> Option<Whole<'_>> {
        let everything = self.list.is_none() && self.kept.is_empty();
        let items = self.view.to_slice().filter(|_| everything)?;
        Some(Whole { bytes: bytemuck::cast_slice(items), in_file: self.in_file() })
    }

    fn reverse_axes(&mut self) -> bool {
        let everything = self.list.is_none() && self.kept.is_empty();
        if everything {
            self.view = self.view.clone().reversed_axes();
        }
        everything
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        if let Some((reader, bytes)) = self.in_file() {
            note(reader, bytes);
        }
    }
}
