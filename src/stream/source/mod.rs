//! [`Source`]: all rows of an array, or a selection of them. The array is in a file or in memory.

mod load;
mod step;

use super::reader::{Batches, Reader, Run};
use super::select::Kept;
use super::stage::{BlockBuffer, Element, with_rows};
use crate::array::Placed;
use crate::map::Mapping;
use crate::sys::AlignedBuf;
use ndarray::{ArrayView, Dimension};
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
    /// The mapping that contained the view before rows were selected. If no row is selected, the mapping cannot always
    /// be found from the address of the view.
    mapping: Option<Arc<Mapping>>,
    /// The selected rows of the view, in this order. `None` selects all rows.
    list: Option<Arc<Vec<usize>>>,
    /// The selected indices of axes other than 0. If the indices form a slice, the view is sliced instead, and this
    /// list has no entry for the axis.
    kept: Kept,
    place: Place,
}

/// The place from which the elements of the view are read.
#[derive(Debug, Default)]
enum Place {
    /// Ordinary memory.
    #[default]
    Memory,
    /// A file, and the range of the file that the view covers. If the file were truncated, a load from its mapped memory
    /// would raise a signal. So a stream loads from it only in [`Reader::in_place`], under the fault guard.
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
        Self { view, mapping, list: None, kept: Kept::default(), place: Place::Memory }
    }

    /// Returns a source of a mapped array. The source fails if the array is closed before the stream runs.
    pub(super) fn mapped(view: ArrayView<'a, T, D>, mapping: &Arc<Mapping>) -> Self {
        Self { mapping: Some(Arc::clone(mapping)), ..Self::new(view) }
    }

    /// Returns the shape of a block before indices of axes other than 0 are selected.
    fn loaded_shape(&self, rows: usize) -> D {
        with_rows(&self.view.raw_dim(), rows)
    }

    /// Returns the shape of a block after all selections.
    fn block_shape(&self, rows: usize) -> D {
        self.kept.shape_of(self.loaded_shape(rows))
    }

    /// Returns the file that contains the elements, if there is one, and the range of it that the view covers.
    fn in_file(&self) -> Option<(&Reader, Range<u64>)> {
        match &self.place {
            Place::Memory => None,
            Place::File { reader, bytes } => Some((reader, bytes.clone())),
        }
    }
}
