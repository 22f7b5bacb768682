//! [`Boxed`]: a step whose type is hidden.

use super::picked::Picked;
use super::pipeline::Stream;
use super::reader::Reader;
use super::stage::sealed::Sealed;
use super::stage::{Choices, Element, Reduction, RowBytes, Stage, Whole};
use crate::error::Result;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension};
use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

impl<'p, S: Stage> Stream<'p, S> {
    /// Hides the types of the steps, so that streams with different steps have the same type. This allows you to
    /// [`concat`](fn@crate::stream::concat) such streams, or to store them in one collection.
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let mut scaled = Stream::from(&table).boxed();
    /// scaled = scaled.map(|rows, mut out| out.assign(&(&rows * 2.0))).boxed();
    /// assert_eq!(scaled.mean_axis0()?[0], 999.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn boxed<'s>(self) -> Stream<'p, Boxed<'s, S::Item, S::Dim>>
    where
        S: 's,
    {
        self.then(Boxed::new)
    }
}

/// A step whose type is hidden. See [`Stream::boxed`].
///
/// ```
/// use ndarray::Ix1;
/// use ndarray_mmap::{MmapArray, stream::{Boxed, Stream}};
///
/// let array = MmapArray::<f32, Ix1>::scratch(100)?;
/// let steps: Vec<Stream<'_, Boxed<'_, f64, Ix1>>> =
///     vec![Stream::from(&array).cast().boxed(), Stream::from(&array).rows(..10).cast().boxed()];
/// assert_eq!(steps.len(), 2);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub struct Boxed<'s, T, D> {
    stage: Box<dyn AnyStage<T, D> + 's>,
}

impl<T, D> fmt::Debug for Boxed<'_, T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Boxed")
    }
}

impl<'s, T: Element, D: Dimension> Boxed<'s, T, D> {
    pub(super) fn new<S: Stage<Item = T, Dim = D> + 's>(stage: S) -> Self {
        Self { stage: Box::new(Hidden(stage)) }
    }
}

/// The buffers of a boxed step. `None` until the first block is loaded.
#[derive(Debug, Default)]
pub struct BoxedState(Option<Box<dyn Any + Send>>);

impl BoxedState {
    /// Returns the buffers as a state of type `S`. Replaces them by new buffers if they belong to a step with another
    /// type of state.
    fn of<S: Default + Send + 'static>(&mut self) -> &mut S {
        let held = self.0.get_or_insert_with(|| Box::new(S::default()));
        if !held.is::<S>() {
            *held = Box::new(S::default());
        }
        held.downcast_mut().expect("a state of this type was put here just above")
    }
}

/// [`Stage`] without associated types, so that it can be a trait object.
trait AnyStage<T, D>: Send + Sync {
    fn pick(&mut self, axis: Axis, picked: &Picked);
    fn path(&self) -> Option<PathBuf>;
    fn held_bytes(&self) -> usize;
    fn prepare(&mut self, choices: Choices) -> Result<()>;
    fn shape(&self) -> D;
    fn row_bytes(&self) -> RowBytes;
    fn is_warm(&self) -> bool;
    fn calls_functions(&self) -> bool;
    fn is_standard_layout(&self) -> bool;
    fn next_data(&self, rows: Range<usize>) -> Result<Range<usize>>;
    fn load(&self, state: &mut BoxedState, rows: Range<usize>) -> Result<()>;
    fn view<'s>(&'s self, state: &'s BoxedState, rows: Range<usize>) -> ArrayView<'s, T, D>;
    fn reduce(
        &self,
        state: &mut BoxedState,
        rows: Range<usize>,
        reduce: &mut Reduction<'_, T, D>,
    ) -> Result<()>;
    fn fill(&self, state: &mut BoxedState, rows: Range<usize>, out: ArrayViewMut<'_, T, D>) -> Result<()>;
    fn whole(&self) -> Option<Whole<'_>>;
    fn reverse_axes(&mut self) -> bool;
    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>));
}

/// Wraps a step of any type as an [`AnyStage`].
struct Hidden<S>(S);

impl<S: Stage> AnyStage<S::Item, S::Dim> for Hidden<S> {
    fn pick(&mut self, axis: Axis, picked: &Picked) {
        self.0.pick(axis, picked);
    }

    fn path(&self) -> Option<PathBuf> {
        self.0.path()
    }

    fn held_bytes(&self) -> usize {
        self.0.held_bytes()
    }

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.0.prepare(choices)
    }

    fn shape(&self) -> S::Dim {
        self.0.shape()
    }

    fn row_bytes(&self) -> RowBytes {
        self.0.row_bytes()
    }

    fn is_warm(&self) -> bool {
        self.0.is_warm()
    }

    fn calls_functions(&self) -> bool {
        self.0.calls_functions()
    }

    fn is_standard_layout(&self) -> bool {
        self.0.is_standard_layout()
    }

    fn next_data(&self, rows: Range<usize>) -> Result<Range<usize>> {
        self.0.next_data(rows)
    }

    fn load(&self, state: &mut BoxedState, rows: Range<usize>) -> Result<()> {
        self.0.load(state.of::<S::State>(), rows)
    }

    fn view<'s>(&'s self, state: &'s BoxedState, rows: Range<usize>) -> ArrayView<'s, S::Item, S::Dim> {
        let held = state.0.as_ref().and_then(|held| held.downcast_ref::<S::State>());
        self.0.view(held.expect("a block is viewed by the step that loaded it"), rows)
    }

    fn reduce(
        &self,
        state: &mut BoxedState,
        rows: Range<usize>,
        reduce: &mut Reduction<'_, S::Item, S::Dim>,
    ) -> Result<()> {
        self.0.reduce(state.of::<S::State>(), rows, reduce)
    }

    fn fill(
        &self,
        state: &mut BoxedState,
        rows: Range<usize>,
        out: ArrayViewMut<'_, S::Item, S::Dim>,
    ) -> Result<()> {
        self.0.fill(state.of::<S::State>(), rows, out)
    }

    fn whole(&self) -> Option<Whole<'_>> {
        self.0.whole()
    }

    fn reverse_axes(&mut self) -> bool {
        self.0.reverse_axes()
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        self.0.reads(note);
    }
}

impl<T, D> Sealed for Boxed<'_, T, D> {}

impl<T: Element, D: Dimension> Stage for Boxed<'_, T, D> {
    type Item = T;
    type Dim = D;
    type State = BoxedState;

    fn pick(&mut self, axis: Axis, picked: &Picked) {
        self.stage.pick(axis, picked);
    }

    fn path(&self) -> Option<PathBuf> {
        self.stage.path()
    }

    fn held_bytes(&self) -> usize {
        self.stage.held_bytes()
    }

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.stage.prepare(choices)
    }

    fn shape(&self) -> D {
        self.stage.shape()
    }

    fn row_bytes(&self) -> RowBytes {
        self.stage.row_bytes()
    }

    fn is_warm(&self) -> bool {
        self.stage.is_warm()
    }

    fn calls_functions(&self) -> bool {
        self.stage.calls_functions()
    }

    fn is_standard_layout(&self) -> bool {
        self.stage.is_standard_layout()
    }

    fn next_data(&self, rows: Range<usize>) -> Result<Range<usize>> {
        self.stage.next_data(rows)
    }

    fn load(&self, state: &mut BoxedState, rows: Range<usize>) -> Result<()> {
        self.stage.load(state, rows)
    }

    fn view<'s>(&'s self, state: &'s BoxedState, rows: Range<usize>) -> ArrayView<'s, T, D> {
        self.stage.view(state, rows)
    }

    fn reduce(
        &self,
        state: &mut BoxedState,
        rows: Range<usize>,
        reduce: &mut Reduction<'_, T, D>,
    ) -> Result<()> {
        self.stage.reduce(state, rows, reduce)
    }

    fn fill(&self, state: &mut BoxedState, rows: Range<usize>, out: ArrayViewMut<'_, T, D>) -> Result<()> {
        self.stage.fill(state, rows, out)
    }

    fn whole(&self) -> Option<Whole<'_>> {
        self.stage.whole()
    }

    fn reverse_axes(&mut self) -> bool {
        self.stage.reverse_axes()
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        self.stage.reads(note);
    }
}
