//! [`Map`]: the rows that a function of the caller computes.

use super::chunked::{Outcome, Rows, call};
use super::picked::Picked;
use super::pipeline::Stream;
use super::reader::Reader;
use super::select::Kept;
use super::stage::sealed::Sealed;
use super::stage::{
    BlockBuffer, Choices, Element, RowBytes, Stage, check_elements, clear, row_bytes_of, row_slice, rows_of,
    view_of_mut, with_rows,
};
use crate::error::Result;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, IntoDimension};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::PathBuf;

/// Functions of the caller that compute rows.
impl<'p, S: Rows> Stream<'p, S> {
    /// Replaces the rows by new rows of the same shape, which a function computes. The arguments of the function are a
    /// chunk of rows, and the output array for the new rows.
    ///
    /// Several threads call the function, each with its own chunk. The new rows have the order of the old rows. The
    /// function must compute each new row from one old row and from no other row, because chunks can begin at any row.
    ///
    /// - The chunk and the output array are in standard layout.
    /// - The output array contains zeros when the function is called. An element that the function does not write stays
    ///   zero.
    /// - If the function panics, the stream fails with [`Panicked`](crate::ErrorKind::Panicked), and no file is
    ///   published.
    /// - The function may use rayon, and run streams itself: see the [module](crate::stream#threads).
    ///
    /// ```
    /// use ndarray::{Axis, Ix2, array};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let mut samples = MmapArray::<f32, Ix2>::scratch((1000, 4))?;
    /// samples.fill(3.0);
    /// let means = Stream::from(&samples)
    ///     .map(|chunk, mut out| out.column_mut(0).assign(&chunk.mean_axis(Axis(1)).unwrap()))
    ///     .mean_axis0()?;
    /// assert_eq!(means, array![3.0, 0.0, 0.0, 0.0]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn map<U, F>(self, function: F) -> Stream<'p, Map<S, PerChunk<F>, U, S::Dim>>
    where
        U: Element,
        F: Fn(S::Chunk<'_>, ArrayViewMut<'_, U, S::Dim>) + Send + Sync,
    {
        self.then(|stage| Map::new(stage, PerChunk(function), None))
    }

    /// Replaces the rows by new rows of the same shape, which a function computes. The function has the same arguments
    /// as the function of [`map`](Self::map), but can return an error.
    ///
    /// If the function returns an error, the stream fails with [`FunctionFailed`](crate::ErrorKind::FunctionFailed),
    /// and no file is published. The [`source`](std::error::Error::source) of the stream's error is the error of the
    /// function. If several threads fail, the stream returns the error that came first.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let table = MmapArray::<i64, Ix2>::scratch((1000, 3))?;
    /// let narrow = Stream::from(&table).try_map(|chunk, mut out| -> Result<(), std::num::TryFromIntError> {
    ///     out.iter_mut().zip(&chunk).try_for_each(|(to, &from)| Ok(*to = u8::try_from(from - 1)?))
    /// });
    /// let error = narrow.min_max().unwrap_err();
    /// let source = std::error::Error::source(&error).unwrap();
    /// assert!(source.is::<std::num::TryFromIntError>()); // -1 is not a `u8`
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn try_map<U, E, F>(self, function: F) -> Stream<'p, Map<S, PerChunk<F>, U, S::Dim>>
    where
        U: Element,
        F: Fn(S::Chunk<'_>, ArrayViewMut<'_, U, S::Dim>) -> Result<(), E> + Send + Sync,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.then(|stage| Map::new(stage, PerChunk(function), None))
    }

    /// Replaces each row by a new row of the same shape, which a function computes. The arguments of the function are
    /// the number of the row, the row, and the output array for the new row. The row and the output array are in
    /// standard layout, and have one dimension less than the array of all rows.
    ///
    /// Rows are numbered from 0 in the stream that `map_each` is called on. A later selection of rows does not change
    /// these numbers. The function returns nothing, or a `Result<(), E>`. An error ends the stream, as in
    /// [`try_map`](Self::try_map).
    ///
    /// ```
    /// use ndarray::{Ix2, array};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let mut table = MmapArray::<f64, Ix2>::scratch((1000, 3))?;
    /// table.fill(2.0);
    /// let last = Stream::from(&table)
    ///     .map_each(|number, row, mut out| out.assign(&(&row * number as f64)))
    ///     .rows(-1..) // only this row is computed
    ///     .mean_axis0()?;
    /// assert_eq!(last, array![1998.0, 1998.0, 1998.0]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn map_each<U, O, F>(self, function: F) -> Stream<'p, Map<S, PerRow<F>, U, S::Dim>>
    where
        U: Element,
        F: Fn(usize, S::Row<'_>, ArrayViewMut<'_, U, <S::Dim as Dimension>::Smaller>) -> O + Send + Sync,
        O: Outcome,
    {
        self.then(|stage| Map::new(stage, PerRow(function), None))
    }

    /// Replaces the rows by new rows of the shape `row_shape`, which a function computes. The function gets the same
    /// arguments as the function of [`map`](Self::map): a chunk in standard layout, and an output array of zeros. The
    /// function returns nothing, or a `Result<(), E>`. An error ends the stream, as in [`try_map`](Self::try_map).
    ///
    /// ```
    /// use ndarray::{Axis, Ix3};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let positions = MmapArray::<f32, Ix3>::scratch((100, 20, 3))?;
    /// let centres = Stream::from(&positions)
    ///     .map_rows(3, |chunk, mut out| out.assign(&chunk.mean_axis(Axis(1)).unwrap()))
    ///     .fold(0, |rows, chunk| rows + chunk.nrows())?;
    /// assert_eq!(centres, 100);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    #[allow(clippy::type_complexity, reason = "the type names the dimensions of the new rows")]
    pub fn map_rows<U, R, O, F>(
        self,
        row_shape: R,
        function: F,
    ) -> Stream<'p, Map<S, PerChunk<F>, U, <R::Dim as Dimension>::Larger>>
    where
        U: Element,
        R: IntoDimension,
        F: Fn(S::Chunk<'_>, ArrayViewMut<'_, U, <R::Dim as Dimension>::Larger>) -> O + Send + Sync,
        O: Outcome,
    {
        let rows_like = row_shape.into_dimension().insert_axis(Axis(0));
        self.then(|stage| Map::new(stage, PerChunk(function), Some(rows_like)))
    }
}

/// A function that computes the rows of one chunk at a time.
#[derive(Debug)]
pub struct PerChunk<F>(F);

/// A function that computes one row at a time.
#[derive(Debug)]
pub struct PerRow<F>(F);

/// The numbers of the rows of a chunk.
#[derive(Clone, Debug)]
pub struct Numbers<'n> {
    rows: Range<usize>,
    /// The numbers of all rows of the stream, if rows were selected after they were numbered.
    picked: Option<&'n Picked>,
}

/// A function that computes new rows `U` from rows of `S`.
pub trait Compute<S: Rows, U, E>: Send + Sync {
    /// Computes the new rows of one chunk.
    fn compute(&self, numbers: &Numbers<'_>, chunk: S::Chunk<'_>, out: ArrayViewMut<'_, U, E>) -> Result<()>;
}

impl<S, U, E, F, O> Compute<S, U, E> for PerChunk<F>
where
    S: Rows,
    F: Fn(S::Chunk<'_>, ArrayViewMut<'_, U, E>) -> O + Send + Sync,
    O: Outcome,
{
    fn compute(&self, _: &Numbers<'_>, chunk: S::Chunk<'_>, out: ArrayViewMut<'_, U, E>) -> Result<()> {
        call(|| (self.0)(chunk, out).into_result())?
    }
}

impl<S, U, E, F, O> Compute<S, U, E> for PerRow<F>
where
    S: Rows,
    E: Dimension,
    F: Fn(usize, S::Row<'_>, ArrayViewMut<'_, U, E::Smaller>) -> O + Send + Sync,
    O: Outcome,
{
    fn compute(
        &self,
        numbers: &Numbers<'_>,
        chunk: S::Chunk<'_>,
        mut out: ArrayViewMut<'_, U, E>,
    ) -> Result<()> {
        let shape = out.raw_dim().try_remove_axis(Axis(0));
        let len = shape.size();
        let items = out.as_slice_mut().expect("the output is in standard layout");
        call(|| {
            numbers.rows.clone().enumerate().try_for_each(|(index, place)| {
                let out = view_of_mut(&mut items[index * len..][..len], shape.clone());
                let number = numbers.picked.map_or(place, |picked| picked.at(place));
                (self.0)(number, S::row(&chunk, index), out).into_result()
            })
        })?
    }
}

/// The rows that a function of the caller computes from other rows.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, stream::{Map, Source, Stream}};
///
/// let array = MmapArray::<f32, Ix1>::scratch(100)?;
/// let stream: Stream<'_, Map<Source<'_, f32, Ix1>, _, f32, Ix1>> =
///     Stream::from(&array).map(|rows, mut out| out.assign(&(&rows + 1.0)));
/// assert_eq!(stream.min_max()?, Some((1.0, 1.0)));
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub struct Map<S, F, U, E> {
    before: S,
    function: F,
    /// The shape of an array of new rows. The length of axis 0 is not used. `None` if the new rows have the shape of
    /// the old rows.
    rows_like: Option<E>,
    chunk_rows: Option<usize>,
    /// The numbers of the rows, if rows were selected after this step.
    numbers: Option<Picked>,
    /// The indices of axes other than 0 that were selected after this step.
    kept: Kept,
    element: PhantomData<fn() -> U>,
}

/// The buffers of a [`Map`].
#[derive(Debug, Default)]
pub struct MapState<B> {
    before: B,
    /// The rows after all selections.
    block: BlockBuffer,
    /// A buffer for the output of the function. The buffer is not used if the function can write to the final place of
    /// the rows.
    whole: BlockBuffer,
    between: Vec<BlockBuffer>,
}

impl<S: Rows, F, U: Element, E: Dimension> Map<S, F, U, E> {
    fn new(before: S, function: F, rows_like: Option<E>) -> Self {
        Self {
            before,
            function,
            rows_like,
            chunk_rows: None,
            numbers: None,
            kept: Kept::default(),
            element: PhantomData,
        }
    }

    /// Returns the shape of the array of all new rows, before indices of other axes are selected.
    fn whole_shape(&self) -> E {
        let before = self.before.shape();
        match &self.rows_like {
            Some(shape) => with_rows(shape, rows_of(&before)),
            None => E::from_dimension(&before).expect("`map` keeps the number of dimensions"),
        }
    }

    /// Calls the function for each chunk of the rows. `out` is in standard layout.
    fn compute(
        &self,
        before: &mut S::Buffers,
        rows: Range<usize>,
        mut out: ArrayViewMut<'_, U, E>,
    ) -> Result<()>
    where
        F: Compute<S, U, E>,
    {
        self.before.load(before, rows.clone())?;
        // Set the output to zero, so that an element that the function does not write contains no data of an earlier
        // block.
        clear(&mut out);
        let block = self.before.chunk(before, rows.clone());
        let numbers = |rows| Numbers { rows, picked: self.numbers.as_ref() };
        let Some(chunk_rows) = self.chunk_rows.filter(|&chunk_rows| chunk_rows < rows.len()) else {
            return self.function.compute(&numbers(rows), block, out);
        };
        (0..rows.len()).step_by(chunk_rows).try_for_each(|first| {
            let part = first..first.saturating_add(chunk_rows).min(rows.len());
            let numbers = numbers(rows.start + part.start..rows.start + part.end);
            let out = out.slice_axis_mut(Axis(0), row_slice(&part));
            self.function.compute(&numbers, S::part(&block, &part), out)
        })
    }
}

impl<S, F, U, E> Sealed for Map<S, F, U, E> {}

impl<S, F, U, E> Stage for Map<S, F, U, E>
where
    S: Rows,
    F: Compute<S, U, E>,
    U: Element,
    E: Dimension,
{
    type Item = U;
    type Dim = E;
    type State = MapState<S::Buffers>;

    /// Each new row is computed from one old row, so a selection of rows selects the old rows.
    fn pick(&mut self, axis: Axis, picked: &Picked) {
        if axis.index() > 0 {
            return self.kept.pick(axis, picked);
        }
        self.before.pick_rows(picked);
        self.numbers = Some(match &self.numbers {
            Some(numbers) => numbers.then(picked),
            None => picked.clone(),
        });
    }

    fn path(&self) -> Option<PathBuf> {
        self.before.path()
    }

    fn held_bytes(&self) -> usize {
        self.before.held_bytes()
    }

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.chunk_rows = choices.chunk_rows;
        self.before.prepare(choices)?;
        check_elements::<U, E>(&self.whole_shape())?;
        check_elements::<U, E>(&Stage::shape(self))
    }

    fn shape(&self) -> E {
        self.kept.shape_of(self.whole_shape())
    }

    fn row_bytes(&self) -> RowBytes {
        let bytes = self.before.row_bytes().and(row_bytes_of::<U, E>(&Stage::shape(self)));
        if self.kept.is_empty() {
            return bytes;
        }
        let whole = self.whole_shape();
        let (between, count) = self.kept.buffers::<U, E>(&whole);
        (0..count).fold(bytes.and(row_bytes_of::<U, E>(&whole)), |bytes, _| bytes.and(between))
    }

    fn is_warm(&self) -> bool {
        self.before.is_warm()
    }

    fn calls_functions(&self) -> bool {
        true
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        self.before.reads(note);
    }

    fn load(&self, state: &mut Self::State, rows: Range<usize>) -> Result<()> {
        let mut block = std::mem::take(&mut state.block);
        let shape = with_rows(&Stage::shape(self), rows.len());
        let filled = block.view_mut(shape).and_then(|out| self.fill(state, rows, out));
        state.block = block;
        filled
    }

    fn view<'s>(&'s self, state: &'s Self::State, rows: Range<usize>) -> ArrayView<'s, U, E> {
        state.block.view(with_rows(&Stage::shape(self), rows.len()))
    }

    fn fill(&self, state: &mut Self::State, rows: Range<usize>, out: ArrayViewMut<'_, U, E>) -> Result<()> {
        let MapState { before, whole, between, .. } = state;
        if self.kept.is_empty() && out.is_standard_layout() {
            return self.compute(before, rows, out);
        }
        let shape = with_rows(&self.whole_shape(), rows.len());
        self.compute(before, rows, whole.view_mut(shape.clone())?)?;
        self.kept.select_into(&whole.view(shape), out, between)
    }
}
