//! [`Source`]: rows of an array, in a file or in memory, all of them or a selection.

mod load;

use self::load::hull_bytes;
use super::probe;
use super::reader::{Batches, Reader, Run};
use super::rows::{RowRange, as_slice, check_indices, clamped};
use super::select::select_into;
use super::stage::sealed::Sealed;
use super::stage::{
    BlockBuffer, Choices, Element, RowBytes, Stage, Whole, check_size, row_bytes_of, rows_of, with_rows,
};
use crate::access::AccessMode;
use crate::array::Placed;
use crate::error::{Error, ErrorKind, Result};
use crate::sys::AlignedBuf;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Slice};
use std::borrow::Cow;
use std::ops::Range;

/// The rows of an array: the first step of every pipeline.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, stream::{Source, Stream}};
///
/// let array = MmapArray::<f32, Ix1>::scratch(100)?;
/// let stream: Stream<'_, Source<'_, f32, Ix1>> = Stream::from(&array).rows(..50);
/// assert_eq!(stream.mean_axis0()?[()], 0.0);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
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

    /// Takes an axis that repeats one index, as broadcasting makes them, for what it is: a selection. Then what is repeated
    /// can be read from its file.
    fn collapse_repeats(&mut self) {
        for axis in (0..self.view.ndim()).map(Axis) {
            let (len, stride) = (self.view.len_of(axis), self.view.strides()[axis.index()]);
            if len <= 1 || stride != 0 || len > MOST_REPEATS {
                continue;
            }
            self.view.slice_axis_inplace(axis, Slice::from(..1));
            match (axis.index(), self.kept.iter_mut().find(|(kept, _)| *kept == axis)) {
                (0, _) => {
                    let rows = self.list.as_ref().map_or(len, |list| list.len());
                    self.list = Some(vec![0; rows].into());
                }
                (_, Some((_, kept))) => kept.fill(0),
                (_, None) => self.kept.push((axis, vec![0; len])),
            }
        }
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

    /// A row's bytes with only some axes selected, as large as that gets.
    fn widest_selection_bytes(&self) -> usize {
        let mut shape = self.loaded_shape(1);
        self.kept.iter().fold(0, |widest, (axis, kept)| {
            shape[axis.index()] = kept.len();
            widest.max(row_bytes_of::<T, D>(&shape))
        })
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
}

/// The longest axis of repeats that is written out as a selection.
const MOST_REPEATS: usize = 1 << 20;

/// Whether an axis repeats one index.
fn repeats<T, D: Dimension>(view: &ArrayView<'_, T, D>) -> bool {
    view.shape().iter().zip(view.strides()).any(|(&len, &stride)| len > 1 && stride == 0)
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
        if Placed::find(&self.view).is_some() {
            self.collapse_repeats();
        }
        check_size::<T, D>(&self.shape())?;
        let placed = Placed::find(&self.view).filter(|_| !repeats(&self.view));
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
                selected.and(if rows > 1 { two - one } else { one })
            }
        };
        let in_file = matches!(self.place, Place::File { .. });
        let loaded = RowBytes { scattered: in_file && self.is_scattered(), ..loaded };
        match self.kept.len() {
            0 => loaded,
            1 => loaded.and(row_bytes_of::<T, D>(&self.block_shape(1))),
            // One axis after the other, with a block between them.
            _ => loaded.and(self.widest_selection_bytes()).and(row_bytes_of::<T, D>(&self.block_shape(1))),
        }
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
                let out =
                    bytemuck::cast_slice_mut(out.as_slice_mut().expect("it is in C order, as was asked"));
                let spare = (&mut state.runs, &mut state.batches);
                return self.read_list(reader, *lowest, &list[rows], out, spare);
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
