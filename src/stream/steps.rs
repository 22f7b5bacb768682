//! The steps that compute rows from other rows: [`Cast`] and [`Map`].

use super::reader::Reader;
use super::stage::sealed::Sealed;
use super::stage::{
    BlockBuffer, Choices, Element, RowBytes, Stage, assign, check_elements, clear, row_bytes_of, rows_of,
    slice_rows, with_rows,
};
use crate::error::{Error, ErrorKind, Result};
use bytemuck::Zeroable;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension, Zip};
use num_traits::AsPrimitive;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The buffers of a step: the buffers of the previous step, and a buffer for the block of this step, which is empty
/// until it is first needed.
#[derive(Debug, Default)]
pub struct StepState<S> {
    before: S,
    block: BlockBuffer,
}

/// Loads a block by filling the buffer of the state.
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
    };
}

/// Implements the queries about the source by calling the previous step.
macro_rules! query_previous_step {
    () => {
        fn is_warm(&self) -> bool {
            self.before.is_warm()
        }

        fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
            self.before.reads(note);
        }
    };
}

/// The rows of a step, with every element converted to `U`.
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
        check_elements::<U, S::Dim>(&self.shape())
    }

    fn shape(&self) -> S::Dim {
        self.before.shape()
    }

    load_by_filling!();
    query_previous_step!();

    fn next_data(&self, rows: Range<usize>) -> Result<Range<usize>> {
        let zero: U = S::Item::zeroed().as_();
        let stays_zero = bytemuck::bytes_of(&zero).iter().all(|&byte| byte == 0);
        if stays_zero { self.before.next_data(rows) } else { Ok(rows) }
    }

    fn calls_functions(&self) -> bool {
        self.before.calls_functions()
    }

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

/// The rows of a step in the form that the caller's functions get: every block is in standard layout.
///
/// A block in another layout is copied to a buffer. This step supplies the rows for every function of the caller.
#[derive(Debug)]
pub struct StandardLayout<S> {
    before: S,
}

impl<S> StandardLayout<S> {
    pub(super) fn new(before: S) -> Self {
        Self { before }
    }
}

impl<S> Sealed for StandardLayout<S> {}

impl<S: Stage> Stage for StandardLayout<S> {
    type Item = S::Item;
    type Dim = S::Dim;
    type State = StepState<S::State>;

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.before.prepare(choices)
    }

    fn shape(&self) -> S::Dim {
        self.before.shape()
    }

    fn row_bytes(&self) -> RowBytes {
        match self.before.is_standard_layout() {
            true => self.before.row_bytes(),
            false => self.before.row_bytes().and(row_bytes_of::<S::Item, S::Dim>(&self.shape())),
        }
    }

    query_previous_step!();

    fn calls_functions(&self) -> bool {
        true
    }

    fn load(&self, state: &mut Self::State, rows: Range<usize>) -> Result<()> {
        self.before.load(&mut state.before, rows.clone())?;
        let block = self.before.view(&state.before, rows);
        if !block.is_standard_layout() {
            assign(&block, state.block.view_mut(block.raw_dim())?);
        }
        Ok(())
    }

    fn view<'s>(&'s self, state: &'s Self::State, rows: Range<usize>) -> ArrayView<'s, S::Item, S::Dim> {
        let block = self.before.view(&state.before, rows);
        if block.is_standard_layout() { block } else { state.block.view(block.raw_dim()) }
    }

    fn fill(
        &self,
        state: &mut Self::State,
        rows: Range<usize>,
        out: ArrayViewMut<'_, S::Item, S::Dim>,
    ) -> Result<()> {
        self.before.fill(&mut state.before, rows, out)
    }
}

/// The rows that a function of the caller computes from the rows of a step.
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
    before: StandardLayout<S>,
    function: F,
    /// The shape of an array of new rows. The length of axis 0 is not used. `None` if the new rows have the shape of
    /// the old rows.
    rows_like: Option<E>,
    chunk_rows: Option<usize>,
    element: PhantomData<fn() -> U>,
}

impl<S, F, U, E> Map<S, F, U, E> {
    pub(super) fn new(before: S, function: F, rows_like: Option<E>) -> Self {
        let before = StandardLayout::new(before);
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
    type State = StepState<<StandardLayout<S> as Stage>::State>;

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.chunk_rows = choices.chunk_rows;
        self.before.prepare(choices)?;
        check_elements::<U, E>(&self.shape())
    }

    fn shape(&self) -> E {
        let before = self.before.shape();
        match &self.rows_like {
            Some(shape) => with_rows(shape, rows_of(&before)),
            None => E::from_dimension(&before).expect("`map` keeps the number of dimensions"),
        }
    }

    load_by_filling!();
    query_previous_step!();

    fn calls_functions(&self) -> bool {
        true
    }

    fn fill(
        &self,
        state: &mut Self::State,
        rows: Range<usize>,
        mut out: ArrayViewMut<'_, U, E>,
    ) -> Result<()> {
        self.before.load(&mut state.before, rows.clone())?;
        let block = self.before.view(&state.before, rows.clone());
        let make = |chunk: ArrayView<'_, S::Item, S::Dim>, mut out: ArrayViewMut<'_, U, E>| {
            // Elements that the function does not write must be zero, and not contain data of an earlier block.
            clear(&mut out);
            call(|| (self.function)(chunk, out))
        };
        let Some(chunk_rows) = self.chunk_rows.filter(|&chunk_rows| chunk_rows < rows.len()) else {
            return make(block, out);
        };
        let chunks = out.axis_chunks_iter_mut(Axis(0), chunk_rows).enumerate();
        chunks.map(|(index, out)| (index * chunk_rows, out)).try_for_each(|(first, out)| {
            make(slice_rows(&block, &(first..first.saturating_add(chunk_rows).min(rows.len()))), out)
        })
    }
}

/// Calls a function of the caller, and turns a panic into an error.
pub(super) fn call<R>(function: impl FnOnce() -> R) -> Result<R> {
    // `AssertUnwindSafe` is correct here: after a panic the stream ends, and its buffers are dropped without being
    // read.
    catch_unwind(AssertUnwindSafe(function)).map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| payload.downcast_ref::<String>().cloned());
        let found = message.map_or("a panic".to_owned(), |message| format!("a panic: {message}"));
        Error::new(ErrorKind::Panicked, "stream", "the caller's function to return", found)
            .with_remedy("correct the function, and run the stream again")
    })
}
