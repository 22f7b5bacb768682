//! [`concat`](fn@concat): a stream of several sources as one array.

use super::picked::{Picked, Pieces};
use super::pipeline::Stream;
use super::reader::Reader;
use super::source::Source;
use super::stage::sealed::Sealed;
use super::stage::{
    BlockBuffer, Choices, Element, RowBytes, Stage, assign, check_elements, row_bytes_of, row_slice,
    with_rows,
};
use crate::access::Access;
use crate::array::MmapArray;
use crate::error::{Error, ErrorKind, Result};
use ndarray::{ArrayBase, ArrayView, ArrayViewMut, Axis, Data, Dimension};
use std::ops::Range;
use std::path::PathBuf;

/// Streams several sources as one array. With `Axis(0)` the rows of one source follow the rows of the previous source.
/// With any other axis the sources lie side by side.
///
/// The sources are arrays, views or streams, all of the same type. [`boxed`](Stream::boxed) gives streams with
/// different steps the same type. Element types must be the same: [`cast`](Stream::cast) converts them.
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
/// If the shapes do not fit together, the call that ends the stream returns
/// [`ShapeMismatch`](ErrorKind::ShapeMismatch). The settings of the parts (budget, progress, transfer and threads) are
/// ignored: call these methods on the stream that this function returns.
pub fn concat<'p, P: Part>(axis: Axis, parts: impl IntoIterator<Item = P>) -> Stream<'p, Concat<P::Stage>> {
    let (parts, failed): (Vec<_>, Vec<_>) = parts.into_iter().map(Part::into_stage).unzip();
    let concat = Concat { axis, parts, shape: <P::Stage as Stage>::Dim::default(), segments: Vec::new() };
    Stream::new(concat).check(|concat| {
        failed.into_iter().flatten().next().map_or(Ok(()), Err)?;
        concat.join()
    })
}

/// A source that can be [concatenated](concat()) or [zipped](Stream::zip): an array, a view or a stream.
pub trait Part {
    /// The step that produces the rows.
    type Stage: Stage;

    /// Returns the step, and the error of the calls that created the source, if there was one.
    #[doc(hidden)]
    fn into_stage(self) -> (Self::Stage, Option<Error>);
}

impl<S: Stage> Part for Stream<'_, S> {
    type Stage = S;

    fn into_stage(self) -> (S, Option<Error>) {
        (self.stage, self.failed)
    }
}

impl<'a, T: Element, D: Dimension, A: Access> Part for &'a MmapArray<T, D, A> {
    type Stage = Source<'a, T, D>;

    fn into_stage(self) -> (Self::Stage, Option<Error>) {
        Stream::from(self).into_stage()
    }
}

impl<'a, T: Element, D: Dimension, R: Data<Elem = T>> Part for &'a ArrayBase<R, D> {
    type Stage = Source<'a, T, D>;

    fn into_stage(self) -> (Self::Stage, Option<Error>) {
        Stream::from(self).into_stage()
    }
}

impl<'a, T: Element, D: Dimension> Part for ArrayView<'a, T, D> {
    type Stage = Source<'a, T, D>;

    fn into_stage(self) -> (Self::Stage, Option<Error>) {
        Stream::from(self).into_stage()
    }
}

/// Accepts a list of references, such as `&[&a, &b]`.
impl<'a, P> Part for &&'a P
where
    &'a P: Part,
{
    type Stage = <&'a P as Part>::Stage;

    fn into_stage(self) -> (Self::Stage, Option<Error>) {
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
    /// The ranges of the axis, in ascending order. Each range has the elements of one part. If indices of the axis were
    /// selected, a part can have several ranges.
    segments: Vec<Segment>,
}

/// A range of the axis along which a [`Concat`] joins its parts. Each segment starts where the previous segment ends.
#[derive(Clone, Copy, Debug)]
struct Segment {
    part: usize,
    /// The index in the part at which the segment starts. The segments of a part, in order, cover all indices of the
    /// part without gaps.
    first: usize,
    end: usize,
}

/// A part of a [`Segment`]: its indices in the concatenation, relative to a block, and in the part.
struct Piece {
    part: usize,
    place: Range<usize>,
    own: Range<usize>,
}

/// The buffers of a concatenation: the buffers of one part, which all parts use in turn, and the buffer for a joined
/// block, which is empty until it is first needed.
#[derive(Debug, Default)]
pub struct ConcatState<S> {
    part: S,
    block: BlockBuffer,
}

impl<S: Stage> Concat<S> {
    /// Returns an error if the shape of the part differs from that of the first part along an axis other than
    /// `self.axis`.
    fn check(&self, part: &S::Dim) -> Result<()> {
        let mut expected = self.shape.clone();
        if part.ndim() == expected.ndim() && self.axis.index() < part.ndim() {
            expected[self.axis.index()] = part[self.axis.index()];
            if expected == *part {
                return Ok(());
            }
        }
        let expected = format!(
            "parts of `concat` with shape {:?}, except along axis {}",
            self.shape.slice(),
            self.axis.index()
        );
        Err(Error::new(ErrorKind::ShapeMismatch, "stream", expected, format!("shape {:?}", part.slice()))
            .with_remedy("select the same part of every other axis, or choose another axis"))
    }

    /// Computes the shape. Returns an error if the parts do not fit together.
    fn join(&mut self) -> Result<()> {
        let Some(first) = self.parts.first() else {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "stream",
                "at least one part for `concat`",
                "none",
            )
            .with_remedy("give it an array, a view or a stream"));
        };
        self.shape = first.shape();
        if self.axis.index() >= self.shape.ndim() {
            let expected = format!("parts of `concat` that have axis {}", self.axis.index());
            let found = format!("parts of {} dimensions", self.shape.ndim());
            return Err(Error::new(ErrorKind::OutOfBounds, "stream", expected, found)
                .with_remedy("axes are counted from 0"));
        }
        self.parts.iter().try_for_each(|part| self.check(&part.shape()))?;
        let mut end = 0_usize;
        for (index, part) in self.parts.iter().enumerate() {
            end = end.saturating_add(part.shape()[self.axis.index()]); // `check_elements` refuses a sum that is too large
            self.segments.push(Segment { part: index, first: 0, end });
        }
        self.shape[self.axis.index()] = end;
        Ok(())
    }

    /// Returns the number of the segment that contains an index of the axis, and the segment's range.
    fn segment_at(&self, index: usize) -> (usize, Range<usize>) {
        let number = self.segments.partition_point(|segment| segment.end <= index);
        let start = number.checked_sub(1).map_or(0, |before| self.segments[before].end);
        (number, start..self.segments[number].end)
    }

    /// Selects indices of the axis along which the parts are joined. Every part keeps its own selected indices.
    fn pick_along(&mut self, picked: &Picked) {
        let mut pieces = vec![Pieces::default(); self.parts.len()];
        let mut segments: Vec<Segment> = Vec::new();
        let mut place = 0;
        while place < picked.len() {
            let (number, range) = self.segment_at(picked.at(place));
            let Segment { part, first, .. } = self.segments[number];
            let count = picked.count_inside(place, &range);
            let own = pieces[part].len();
            pieces[part].add(picked, place, count, first as isize - range.start as isize);
            place += count;
            match segments.last_mut().filter(|last| last.part == part) {
                Some(last) => last.end = place,
                None => segments.push(Segment { part, first: own, end: place }),
            }
        }
        self.segments = segments;
        for (part, pieces) in self.parts.iter_mut().zip(pieces) {
            part.pick(self.axis, &pieces.into_picked());
        }
    }

    /// Returns the part that contains the first index of a range of the axis, and the indices of the part from there to
    /// the end of the range or of the segment.
    fn own_range(&self, range: &Range<usize>) -> (usize, Range<usize>) {
        let (number, segment) = self.segment_at(range.start);
        let Segment { part, first, .. } = self.segments[number];
        let start = first + range.start - segment.start;
        (part, start..start + range.end.min(segment.end) - range.start)
    }

    /// Returns the pieces of the segments that are in a range of the axis, sorted by their parts.
    fn pieces_in(&self, range: &Range<usize>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut index = range.start;
        while index < range.end {
            let (part, own) = self.own_range(&(index..range.end));
            let start = index - range.start;
            pieces.push(Piece { part, place: start..start + own.len(), own: own.clone() });
            index += own.len();
        }
        pieces.sort_by_key(|piece| piece.part);
        pieces
    }

    /// Copies the segment pieces of one part to their places in `out`. `rows` are the rows of the block.
    fn fill_pieces(
        &self,
        state: &mut S::State,
        pieces: &[Piece],
        rows: &Range<usize>,
        mut out: ArrayViewMut<'_, S::Item, S::Dim>,
    ) -> Result<()> {
        let (part, along_rows) = (&self.parts[pieces[0].part], self.axis.index() == 0);
        // The pieces of one part are contiguous in that part.
        let own = pieces[0].own.start..pieces[pieces.len() - 1].own.end;
        let rows = if along_rows { own.clone() } else { rows.clone() };
        if let [Piece { place, .. }] = pieces {
            return part.fill(state, rows, out.slice_axis_mut(self.axis, row_slice(place)));
        }
        part.load(state, rows.clone())?;
        let block = part.view(state, rows);
        for Piece { place, own: indices, .. } in pieces {
            let from = indices.start - own.start..indices.end - own.start;
            let from = block.slice_axis(self.axis, row_slice(&from));
            assign(&from, out.slice_axis_mut(self.axis, row_slice(place)));
        }
        Ok(())
    }
}

impl<S: Stage> Sealed for Concat<S> {}

impl<S: Stage> Stage for Concat<S> {
    type Item = S::Item;
    type Dim = S::Dim;
    type State = ConcatState<S::State>;

    fn pick(&mut self, axis: Axis, picked: &Picked) {
        match axis == self.axis {
            true => self.pick_along(picked),
            false => self.parts.iter_mut().for_each(|part| part.pick(axis, picked)),
        }
        self.shape[axis.index()] = picked.len();
    }

    fn path(&self) -> Option<PathBuf> {
        self.parts.iter().find_map(Stage::path)
    }

    fn held_bytes(&self) -> usize {
        self.parts.iter().map(Stage::held_bytes).sum::<usize>() + size_of_val(&self.segments[..])
    }

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.parts.iter_mut().try_for_each(|part| part.prepare(choices))?;
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
        let mut row = rows.start;
        while row < rows.end {
            let (part, own) = self.own_range(&(row..rows.end));
            let data = self.parts[part].next_data(own.clone())?;
            if !data.is_empty() {
                return Ok(row + data.start - own.start..row + data.end - own.start);
            }
            row += own.len();
        }
        Ok(rows.end..rows.end)
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
        let range = if self.axis.index() == 0 { rows.clone() } else { 0..self.shape[self.axis.index()] };
        let pieces = self.pieces_in(&range);
        let mut of_parts = pieces.chunk_by(|one, next| one.part == next.part);
        of_parts.try_for_each(|pieces| self.fill_pieces(&mut state.part, pieces, &rows, out.view_mut()))
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        self.parts.iter().for_each(|part| part.reads(note));
    }
}
