//! [`Cast`]: rows with converted elements.

use super::picked::Picked;
use super::pipeline::Stream;
use super::reader::Reader;
use super::stage::sealed::Sealed;
use super::stage::{BlockBuffer, Choices, Element, RowBytes, Stage, check_elements, row_bytes_of, with_rows};
use crate::error::Result;
use bytemuck::Zeroable;
use ndarray::{ArrayView, ArrayViewMut, Axis, Zip};
use num_traits::AsPrimitive;
use std::marker::PhantomData;
use std::ops::Range;
use std::path::PathBuf;

impl<'p, S: Stage> Stream<'p, S> {
    /// Converts every element, as the operator `as` does.
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let largest = Stream::from(&table).cast::<u16>().min_max()?.map(|(_, largest)| largest);
    /// assert_eq!(largest, Some(999_u16));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn cast<U: Element>(self) -> Stream<'p, Cast<S, U>>
    where
        S::Item: AsPrimitive<U>,
    {
        self.then(Cast::new)
    }
}

/// The buffers of a [`Cast`]: the buffers of the previous step, and a buffer for the block of this step, which is empty
/// until it is first needed.
#[derive(Debug, Default)]
pub struct CastState<S> {
    before: S,
    block: BlockBuffer,
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
    type State = CastState<S::State>;

    fn pick(&mut self, axis: Axis, picked: &Picked) {
        self.before.pick(axis, picked);
    }

    fn path(&self) -> Option<PathBuf> {
        self.before.path()
    }

    fn held_bytes(&self) -> usize {
        self.before.held_bytes()
    }

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.before.prepare(choices)?;
        check_elements::<U, S::Dim>(&self.shape())
    }

    fn shape(&self) -> S::Dim {
        self.before.shape()
    }

    fn row_bytes(&self) -> RowBytes {
        self.before.row_bytes().and(row_bytes_of::<U, S::Dim>(&self.shape()))
    }

    fn is_warm(&self) -> bool {
        self.before.is_warm()
    }

    fn calls_functions(&self) -> bool {
        self.before.calls_functions()
    }

    fn next_data(&self, rows: Range<usize>) -> Result<Range<usize>> {
        let zero: U = S::Item::zeroed().as_();
        let stays_zero = bytemuck::bytes_of(&zero).iter().all(|&byte| byte == 0);
        if stays_zero { self.before.next_data(rows) } else { Ok(rows) }
    }

    fn reverse_axes(&mut self) -> bool {
        self.before.reverse_axes()
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        self.before.reads(note);
    }

    fn load(&self, state: &mut Self::State, rows: Range<usize>) -> Result<()> {
        let mut block = std::mem::take(&mut state.block);
        let shape = with_rows(&self.shape(), rows.len());
        let filled = block.view_mut(shape).and_then(|out| self.fill(state, rows, out));
        state.block = block;
        filled
    }

    fn view<'s>(&'s self, state: &'s Self::State, rows: Range<usize>) -> ArrayView<'s, U, S::Dim> {
        state.block.view(with_rows(&self.shape(), rows.len()))
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
