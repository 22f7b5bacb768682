//! [`concat`](fn@concat): a stream of several sources as one array.

use super::pipeline::Stream;
use super::reader::Reader;
use super::source::Source;
use super::stage::sealed::Sealed;
use super::stage::{
    BlockBuffer, Choices, Element, RowBytes, Stage, check_elements, row_bytes_of, row_slice, with_rows,
};
use crate::access::Access;
use crate::array::MmapArray;
use crate::error::{Error, ErrorKind, Result};
use ndarray::{ArrayBase, ArrayView, ArrayViewMut, Axis, Data, Dimension, Slice};
use std::ops::Range;

/// Streams several sources as one array. With `Axis(0)` the rows of one source follow the rows of the previous source. With
/// any other axis the sources lie side by side.
///
/// The sources are arrays, views or streams, all of the same type. [`boxed`](Stream::boxed) gives streams with different
/// steps the same type. Element types must be the same: [`cast`](Stream::cast) converts them.
///
/// ```
/// use ndarray::{Axis, Ix2};
/// use ndarray_mmap::{MmapArray, stream::{Stream, concat}};
///
/// # let folder = tempfile::tempdir()?;
/// let first = MmapArray::<f32, Ix2>::scratch((100, 3))?;
/// let second = MmapArray::<f32, Ix2>::scratch((50, 3))?;
/// let all = concat(Axis(0), &[&first, &second]).write_to(folder.path().join("all.npy"))?;
/// assert_eq!(all.shape(), [150, 3]);
///
/// let precise = MmapArray::<f64, Ix2>::scratch((100, 4))?;
/// let parts = [Stream::from(&first).cast::<f64>().boxed(), Stream::from(&precise).boxed()];
/// let wide = concat(Axis(1), parts).write_to(folder.path().join("wide.npy"))?;
/// assert_eq!(wide.shape(), [100, 7]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// If the shapes do not fit together, the call that ends the stream returns [`ShapeMismatch`](ErrorKind::ShapeMismatch).
/// Budget, progress, transfer and threads of the parts are ignored: set them on the stream that this function returns.
pub fn concat<'p, P: Part>(axis: Axis, parts: impl IntoIterator<Item = P>) -> Stream<'p, Concat<P::Stage>> {
    Stream::new(Concat::new(axis, parts.into_iter().map(Part::into_stage).collect()))
}

/// A source that can be [concatenated](concat()): an array, a view or a stream.
pub trait Part {
    /// The step that produces the rows.
    type Stage: Stage;

    #[doc(hidden)]
    fn into_stage(self) -> Self::Stage;
}

impl<S: Stage> Part for Stream<'_, S> {
    type Stage = S;

    fn into_stage(self) -> S {
        self.stage
    }
}

impl<'a, T: Element, D: Dimension, A: Access> Part for &'a MmapArray<T, D, A> {
    type Stage = Source<'a, T, D>;

    fn into_stage(self) -> Self::Stage {
        Stream::from(self).stage
    }
}

impl<'a, T: Element, D: Dimension, R: Data<Elem = T>> Part for &'a ArrayBase<R, D> {
    type Stage = Source<'a, T, D>;

    fn into_stage(self) -> Self::Stage {
        Stream::from(self).stage
    }
}

impl<'a, T: Element, D: Dimension> Part for ArrayView<'a, T, D> {
    type Stage = Source<'a, T, D>;

    fn into_stage(self) -> Self::Stage {
        Stream::from(self).stage
    }
}

/// Accepts a list of references, such as `&[&a, &b]`.
impl<'a, P> Part for &&'a P
where
    &'a P: Part,
{
    type Stage = <&'a P as Part>::Stage;

    fn into_stage(self) -> Self::Stage {
        (*self).into_stage()
    }
}

/// The rows of several steps as one array.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, stream::{Concat, Source, concat, Stream}};
///
/// let array = MmapArray::<f32, Ix1>::scratch(100)?;
/// let twice: Stream<'_, Concat<Source<'_, f32, Ix1>>> = concat(ndarray::Axis(0), &[&array, &array]);
/// assert_eq!(twice.fold(0, |rows, chunk| rows + chunk.len())?, 200);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Debug)]
pub struct Concat<S: Stage> {
    axis: Axis,
    parts: Vec<S>,
    shape: S::Dim,
    /// The index at which each part ends along the axis.
    ends: Vec<usize>,
}

/// The buffers of a concatenation: the buffers of one part, which all parts use in turn, and the buffer for a joined
/// block, which is empty until it is first needed.
#[derive(Debug, Default)]
pub struct ConcatState<S> {
    part: S,
    block: BlockBuffer,
}

impl<S: Stage> Concat<S> {
    fn new(axis: Axis, parts: Vec<S>) -> Self {
        let mut shape = parts.first().map(Stage::shape).unwrap_or_default();
        let mut ends = Vec::with_capacity(parts.len());
        if axis.index() < shape.ndim() {
            let mut end = 0_usize;
            for part in &parts {
                let len = part.shape().slice().get(axis.index()).copied().unwrap_or(0);
                end = end.saturating_add(len); // `check_elements` refuses a sum that is too large
                ends.push(end);
            }
            shape[axis.index()] = end;
        }
        Self { axis, parts, shape, ends }
    }

    /// Returns an error if the shape of the part differs from that of the first part along an axis other than
    /// `self.axis`.
    fn check(&self, part: &S::Dim) -> Result<()> {
        let first = self.parts.first().map(Stage::shape).unwrap_or_default();
        let mut expected = first.clone();
        if part.ndim() == expected.ndim() && self.axis.index() < part.ndim() {
            expected[self.axis.index()] = part[self.axis.index()];
            if expected == *part {
                return Ok(());
            }
        }
        let expected = format!(
            "parts of `concat` with shape {:?}, except along axis {}",
            first.slice(),
            self.axis.index()
        );
        Err(Error::new(ErrorKind::ShapeMismatch, "stream", expected, format!("shape {:?}", part.slice()))
            .with_remedy("select the same part of every other axis, or choose another axis"))
    }

    /// Returns the parts that overlap with a range along the axis. For each part, also returns the indices of the part that
    /// are in the range, and their position in the range.
    fn parts_in(&self, range: Range<usize>) -> impl Iterator<Item = (&S, Range<usize>, Slice)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.parts.iter().zip(starts.zip(&self.ends)).filter_map(move |(part, (start, &end))| {
            let both = range.start.max(start)..range.end.min(end);
            let place = both.start.wrapping_sub(range.start)..both.end.wrapping_sub(range.start);
            (both.start < both.end).then(|| (part, both.start - start..both.end - start, row_slice(&place)))
        })
    }
}

impl<S: Stage> Sealed for Concat<S> {}

impl<S: Stage> Stage for Concat<S> {
    type Item = S::Item;
    type Dim = S::Dim;
    type State = ConcatState<S::State>;

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.parts.iter_mut().try_for_each(|part| part.prepare(choices))?;
        if self.parts.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "stream",
                "at least one part for `concat`",
                "none",
            )
            .with_remedy("give it an array, a view or a stream"));
        }
        if self.axis.index() >= self.shape.ndim() {
            let expected = format!("parts of `concat` that have axis {}", self.axis.index());
            let found = format!("parts of {} dimensions", self.shape.ndim());
            return Err(Error::new(ErrorKind::OutOfBounds, "stream", expected, found)
                .with_remedy("axes are counted from 0"));
        }
        self.parts.iter().try_for_each(|part| self.check(&part.shape()))?;
        check_elements::<S::Item, S::Dim>(&self.shape)
    }

    fn shape(&self) -> S::Dim {
        self.shape.clone()
    }

    fn row_bytes(&self) -> RowBytes {
        let widest = self.parts.iter().map(Stage::row_bytes).fold(RowBytes::default(), RowBytes::max);
        widest.and(row_bytes_of::<S::Item, S::Dim>(&self.shape))
    }

    fn is_warm(&self) -> bool {
        self.parts.iter().all(Stage::is_warm)
    }

    fn calls_functions(&self) -> bool {
        self.parts.iter().any(Stage::calls_functions)
    }

    fn next_data(&self, rows: Range<usize>) -> Result<Range<usize>> {
        if self.axis != Axis(0) {
            return Ok(rows);
        }
        let mut end = rows.start;
        for (part, rows, _) in self.parts_in(rows) {
            let start = end;
            end += rows.len();
            let data = part.next_data(rows.clone())?;
            if !data.is_empty() {
                return Ok(start + (data.start - rows.start)..start + (data.end - rows.start));
            }
        }
        Ok(end..end)
    }

    fn load(&self, state: &mut Self::State, rows: Range<usize>) -> Result<()> {
        let mut block = std::mem::take(&mut state.block);
        let shape = with_rows(&self.shape, rows.len());
        let filled = block.view_mut(shape).and_then(|out| self.fill(state, rows, out));
        state.block = block;
        filled
    }

    fn view<'s>(&'s self, state: &'s Self::State, rows: Range<usize>) -> ArrayView<'s, S::Item, S::Dim> {
        state.block.view(with_rows(&self.shape, rows.len()))
    }

    fn fill(
        &self,
        state: &mut Self::State,
        rows: Range<usize>,
        mut out: ArrayViewMut<'_, S::Item, S::Dim>,
    ) -> Result<()> {
        let stacked = self.axis.index() == 0;
        let range = if stacked { rows.clone() } else { 0..self.shape[self.axis.index()] };
        for (part, own, place) in self.parts_in(range) {
            let room = out.slice_axis_mut(self.axis, place);
            part.fill(&mut state.part, if stacked { own } else { rows.clone() }, room)?;
        }
        Ok(())
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        self.parts.iter().for_each(|part| part.reads(note));
    }
}
