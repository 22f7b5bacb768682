//! The steps that make other rows of rows: [`Cast`] and [`Map`].

use super::reader::Reader;
use super::stage::sealed::Sealed;
use super::stage::{
    BlockBuffer, Choices, Element, RowBytes, Stage, check_size, row_bytes_of, rows_of, slice_rows, with_rows,
};
use crate::error::{Error, ErrorKind, Result};
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Zip};
use num_traits::AsPrimitive;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a thread needs for a step: what it needs for the step before, and a block of its own where one is asked for.
#[derive(Debug, Default)]
pub struct StepState<S> {
    before: S,
    block: BlockBuffer,
}

/// Loads a block by filling the state's own buffer.
macro_rules! load_by_filling {
    () => {
        fn load(&self, state: &mut Self::State, rows: Range<usize>) -> Result<()> {
            let mut block = std::mem::take(&mut state.block);
            let shape = with_rows(&self.shape(), rows.len());
            let filled = block.view_mut(shape).and_then(|out| self.fill(state, rows, out));
            state.block = block;
            filled
        }

        fn view<'s>(
            &'s self,
            state: &'s Self::State,
            rows: Range<usize>,
        ) -> ArrayView<'s, Self::Item, Self::Dim> {
            state.block.view(with_rows(&self.shape(), rows.len()))
        }

        fn row_bytes(&self) -> RowBytes {
            self.before.row_bytes().and(row_bytes_of::<Self::Item, Self::Dim>(&self.shape()))
        }

        fn is_warm(&self) -> bool {
            self.before.is_warm()
        }

        fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
            self.before.reads(note);
        }
    };
}

/// The rows of a step, every element as a `U`.
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, stream::{Cast, Source, Stream}};
///
/// let array = MmapArray::<f32, Ix1>::scratch(100)?;
/// let stream: Stream<'_, Cast<Source<'_, f32, Ix1>, f64>> = Stream::from(&array).cast();
/// assert_eq!(stream.fold(0.0, |sum, chunk| sum + chunk.sum())?, 0.0);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Debug)]
pub struct Cast<S, U> {
    before: S,
    element: PhantomData<fn() -> U>,
}

impl<S: Stage, U> Cast<S, U> {
    pub(super) fn new(before: S) -> Self {
        Self { before, element: PhantomData }
    }
}

impl<S, U> Sealed for Cast<S, U> {}

impl<S: Stage, U: Element> Stage for Cast<S, U>
where
    S::Item: AsPrimitive<U>,
{
    type Item = U;
    type Dim = S::Dim;
    type State = StepState<S::State>;

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.before.prepare(choices)?;
        check_size::<U, S::Dim>(&self.shape())
    }

    fn shape(&self) -> S::Dim {
        self.before.shape()
    }

    load_by_filling!();

    fn reverse_axes(&mut self) -> bool {
        self.before.reverse_axes()
    }

    fn fill(
        &self,
        state: &mut Self::State,
        rows: Range<usize>,
        out: ArrayViewMut<'_, U, S::Dim>,
    ) -> Result<()> {
        self.before.load(&mut state.before, rows.clone())?;
        let block = self.before.view(&state.before, rows);
        Zip::from(out).and(block).for_each(|to, from| *to = from.as_());
        Ok(())
    }
}

/// The rows that a function makes of the rows of a step.
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
    /// The shape of the rows that it makes, behind a first axis of any length; `None` if they are shaped as before.
    rows_like: Option<E>,
    chunk_rows: Option<usize>,
    element: PhantomData<fn() -> U>,
}

impl<S, F, U, E> Map<S, F, U, E> {
    pub(super) fn new(before: S, function: F, rows_like: Option<E>) -> Self {
        Self { before, function, rows_like, chunk_rows: None, element: PhantomData }
    }
}

impl<S, F, U, E> Sealed for Map<S, F, U, E> {}

impl<S, F, U, E> Stage for Map<S, F, U, E>
where
    S: Stage,
    F: Send + Sync + Fn(ArrayView<'_, S::Item, S::Dim>, ArrayViewMut<'_, U, E>),
    U: Element,
    E: Dimension,
{
    type Item = U;
    type Dim = E;
    type State = StepState<S::State>;

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.chunk_rows = choices.chunk_rows;
        self.before.prepare(choices)?;
        check_size::<U, E>(&self.shape())
    }

    fn shape(&self) -> E {
        let before = self.before.shape();
        match &self.rows_like {
            Some(shape) => with_rows(shape, rows_of(&before)),
            None => E::from_dimension(&before).expect("`map` keeps the number of dimensions"),
        }
    }

    load_by_filling!();

    fn fill(
        &self,
        state: &mut Self::State,
        rows: Range<usize>,
        mut out: ArrayViewMut<'_, U, E>,
    ) -> Result<()> {
        self.before.load(&mut state.before, rows.clone())?;
        let block = self.before.view(&state.before, rows.clone());
        let Some(chunk_rows) = self.chunk_rows.filter(|&chunk_rows| chunk_rows < rows.len()) else {
            return call(|| (self.function)(block, out));
        };
        for (index, out) in out.axis_chunks_iter_mut(Axis(0), chunk_rows).enumerate() {
            let first = index * chunk_rows;
            let chunk = slice_rows(&block, &(first..(first + chunk_rows).min(rows.len())));
            call(|| (self.function)(chunk, out))?;
        }
        Ok(())
    }
}

/// Calls a function of the caller's; a panic in it is an error.
pub(super) fn call<R>(function: impl FnOnce() -> R) -> Result<R> {
    // Whatever the function left half done is thrown away with the pipeline.
    catch_unwind(AssertUnwindSafe(function)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let found = message.map_or("a panic".to_owned(), |message| format!("a panic: {message}"));
        Error::new(ErrorKind::Panicked, "stream", "the caller's function to return", found)
    })
}
