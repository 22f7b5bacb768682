//! [`Source`]: all rows of an array, or a selection of them. The array is in a file or in memory.

mod load;
mod step;

use super::reader::{Batches, Reader, Run};
use super::rows::{RowRange, as_slice, check_indices, clamped};
use super::stage::{BlockBuffer, Element, row_bytes_of, with_rows};
use crate::array::Placed;
use crate::error::{Error, ErrorKind, Result};
use crate::map::Mapping;
use crate::sys::AlignedBuf;
use ndarray::{ArrayView, Axis, Dimension, Slice};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

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
    /// The mapping that contained the view before rows were selected. A view without rows does not always tell its
    /// mapping.
    mapping: Option<Arc<Mapping>>,
    /// The first error of the selections.
    failed: Option<Error>,
    /// The selected rows of the view, in this order. `None` selects all rows.
    list: Option<Cow<'a, [usize]>>,
    /// The selected indices of axes other than 0. If the indices form a slice, the view is sliced instead, and this
    /// list has no entry for the axis.
    kept: Vec<(Axis, Vec<usize>)>,
    place: Place,
}

/// The place from which the elements of the view are read.
#[derive(Debug, Default)]
enum Place {
    /// Ordinary memory.
    #[default]
    Memory,
    /// A file, and the range of the file that the view covers. A stream never loads from the mapped memory of a file:
    /// if the file were truncated, the load would raise a signal.
    File { reader: Reader, bytes: Range<u64> },
}

/// The buffers that one thread needs to load rows.
#[derive(Debug, Default)]
pub struct SourceState {
    rows: Option<AlignedBuf>,
    /// The offset in `rows` of the block's lowest element.
    lead: usize,
    batches: Batches,
    runs: Vec<Run>,
    selected: BlockBuffer,
    /// A buffer for the result of each selection along an axis, except the last.
    between: Vec<BlockBuffer>,
}

impl<'a, T: Element, D: Dimension> Source<'a, T, D> {
    pub(super) fn new(view: ArrayView<'a, T, D>) -> Self {
        let mapping = Placed::find(&view).map(|placed| placed.mapping);
        Self { view, mapping, failed: None, list: None, kept: Vec::new(), place: Place::Memory }
    }

    /// Returns a source of a mapped array. The source fails if the array is closed before the stream runs.
    pub(super) fn mapped(view: ArrayView<'a, T, D>, mapping: &Arc<Mapping>) -> Self {
        Self { mapping: Some(Arc::clone(mapping)), ..Self::new(view) }
    }

    /// Applies a selection, unless an earlier selection failed. The stream reports only the first error.
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

    /// Returns the shape of a block before indices of axes other than 0 are selected.
    fn loaded_shape(&self, rows: usize) -> D {
        with_rows(&self.view.raw_dim(), rows)
    }

    /// Returns the shape of a block after all selections.
    fn block_shape(&self, rows: usize) -> D {
        let mut shape = self.loaded_shape(rows);
        for (axis, kept) in &self.kept {
            shape[axis.index()] = kept.len();
        }
        shape
    }

    /// Returns the size in bytes of the largest row that any selection along an axis produces. The selections are
    /// applied one after the other.
    fn widest_selection_bytes(&self) -> usize {
        let mut shape = self.loaded_shape(1);
        self.kept.iter().fold(0, |widest, (axis, kept)| {
            shape[axis.index()] = kept.len();
            widest.max(row_bytes_of::<T, D>(&shape))
        })
    }

    /// Returns the file that contains the elements, if there is one, and the range of it that the view covers.
    fn in_file(&self) -> Option<(&Reader, Range<u64>)> {
        match &self.place {
            Place::Memory => None,
            Place::File { reader, bytes } => Some((reader, bytes.clone())),
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
    )
    .with_remedy("axes are counted from 0"))
}

fn slice_axis<T, D: Dimension>(view: &mut ArrayView<'_, T, D>, axis: Axis, slice: Slice) -> Result<()> {
    need_axis(view, axis)?;
    let slice = clamped(slice, view.len_of(axis))?;
    view.slice_axis_inplace(axis, slice);
    Ok(())
}
