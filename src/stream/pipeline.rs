//! [`Stream`]: the source, the steps and the settings of a pipeline.

use super::boxed::Boxed;
use super::budget::Budget;
use super::rows::RowRange;
use super::source::Source;
use super::stage::{Element, Stage};
use super::steps::{Cast, Map};
use super::workers::Report;
use crate::access::Access;
use crate::array::MmapArray;
use crate::io::Transfer;
use ndarray::{ArrayBase, ArrayRef, ArrayView, ArrayViewMut, Axis, Data, Dimension, IntoDimension};
use num_traits::AsPrimitive;
use std::fmt;
use std::ops::ControlFlow;

/// A pipeline: the rows of a source, and the steps that select and change them.
///
/// `Stream::from(&array)` creates a stream of an [`MmapArray`], or of any array or view of ndarray. Nothing is read before
/// the call that ends the stream: [`write_to`](Self::write_to), [`copy_into`](Self::copy_into),
/// [`to_array`](Self::to_array), [`fold`](Self::fold) or a reduction. That call also returns the errors of the calls before it.
///
/// ```
/// use ndarray::Ix2;
/// use ndarray_mmap::{MmapArray, stream::Stream};
///
/// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
/// let rows = Stream::from(&table).rows(..600).fold(0, |rows, chunk| rows + chunk.nrows())?;
/// assert_eq!(rows, 600);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[must_use = "a stream does nothing before `write_to`, `copy_into`, `to_array`, `fold` or a reduction"]
pub struct Stream<'p, S> {
    pub(super) stage: S,
    pub(super) budget: Budget,
    pub(super) transfer: Transfer,
    pub(super) threads: Option<usize>,
    /// Whether reductions ignore NaN.
    pub(super) skips_nan: bool,
    pub(super) report: Option<Report<'p>>,
}

impl<S: fmt::Debug> fmt::Debug for Stream<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("stage", &self.stage)
            .field("budget", &self.budget)
            .field("transfer", &self.transfer)
            .finish_non_exhaustive()
    }
}

impl<'a, T: Element, D: Dimension> From<ArrayView<'a, T, D>> for Stream<'_, Source<'a, T, D>> {
    fn from(view: ArrayView<'a, T, D>) -> Self {
        Self::new(Source::new(view))
    }
}

impl<'a, T: Element, D: Dimension, A: Access> From<&'a MmapArray<T, D, A>> for Stream<'_, Source<'a, T, D>> {
    fn from(array: &'a MmapArray<T, D, A>) -> Self {
        Self::new(Source::mapped(array.view_even_if_closed(), array.mapping()))
    }
}

impl<'a, T: Element, D: Dimension, R: Data<Elem = T>> From<&'a ArrayBase<R, D>>
    for Stream<'_, Source<'a, T, D>>
{
    fn from(array: &'a ArrayBase<R, D>) -> Self {
        array.view().into()
    }
}

impl<'a, T: Element, D: Dimension> From<&'a ArrayRef<T, D>> for Stream<'_, Source<'a, T, D>> {
    fn from(array: &'a ArrayRef<T, D>) -> Self {
        array.view().into()
    }
}

/// Selections. Each selection applies to the result of the selections before it.
impl<'a, T: Element, D: Dimension> Stream<'_, Source<'a, T, D>> {
    /// Keeps a range of rows, optionally with a step: `1000..`, `..=5`, `s![..;10]`, `Slice::from(..).step_by(10)`.
    ///
    /// Rows after the last one are ignored.
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let every_tenth = Stream::from(&table).rows(s![500..;10]).mean_axis0()?;
    /// assert_eq!(every_tenth[0], 745.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn rows(mut self, range: impl RowRange) -> Self {
        self.stage.narrow_rows(&range);
        self
    }

    /// Keeps the listed rows, in this order. Rows may be repeated. The stream fails with
    /// [`OutOfBounds`](crate::ErrorKind::OutOfBounds) if a row does not exist.
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let two_rows = Stream::from(&table).select_rows(&[7, 9]).mean_axis0()?;
    /// assert_eq!(two_rows[0], 8.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn select_rows(mut self, rows: &'a [usize]) -> Self {
        self.stage.pick_rows(rows);
        self
    }

    /// Keeps the listed indices of an axis, in this order. Indices may be repeated. The stream fails with
    /// [`OutOfBounds`](crate::ErrorKind::OutOfBounds) if the axis or an index does not exist.
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let columns = Stream::from(&table).select(Axis(1), &[0, 2]).mean_axis0()?;
    /// assert_eq!(columns.len(), 2);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn select(mut self, axis: Axis, indices: &'a [usize]) -> Self {
        self.stage.pick(axis, indices);
        self
    }
}

/// Steps and settings.
impl<'p, S: Stage> Stream<'p, S> {
    pub(super) fn new(stage: S) -> Self {
        let (budget, transfer) = (Budget::default(), Transfer::Auto);
        Self { stage, budget, transfer, threads: None, skips_nan: false, report: None }
    }

    /// Adds a step to the stream.
    pub(super) fn then<R: Stage>(self, step: impl FnOnce(S) -> R) -> Stream<'p, R> {
        let Self { stage, budget, transfer, threads, skips_nan, report } = self;
        Stream { stage: step(stage), budget, transfer, threads, skips_nan, report }
    }

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

    /// Replaces the rows by new rows of the same shape, which a function computes. The arguments of the function are a
    /// chunk of rows, and the output array for the new rows.
    ///
    /// Several threads call the function, each with its own chunk. The new rows keep the order of the old ones. The
    /// function must compute each row only from the old row, because chunks can begin at any row.
    ///
    /// - The chunk is in standard layout.
    /// - The output array contains zeros when the function is called. An element that the function does not write stays
    ///   zero.
    /// - If the function panics, the stream fails with [`Panicked`](crate::ErrorKind::Panicked), and no file is published.
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
    pub fn map<U, F>(self, function: F) -> Stream<'p, Map<S, F, U, S::Dim>>
    where
        U: Element,
        F: Fn(ArrayView<'_, S::Item, S::Dim>, ArrayViewMut<'_, U, S::Dim>) + Send + Sync,
    {
        self.then(|stage| Map::new(stage, function, None))
    }

    /// Replaces the rows by new rows of the shape `row_shape`, which a function computes. The function gets the same
    /// arguments as the function of [`map`](Self::map): a chunk in standard layout, and an output array of zeros.
    ///
    /// ```
    /// use ndarray::{Axis, Ix3};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let positions = MmapArray::<f32, Ix3>::scratch((100, 20, 3))?;
    /// let distances = MmapArray::<f64, Ix3>::scratch((100, 20, 3))?;
    /// let centres = Stream::from(&positions)
    ///     .map_rows(3, |chunk, mut out| out.assign(&chunk.mean_axis(Axis(1)).unwrap()))
    ///     .fold(0, |rows, chunk| rows + chunk.nrows())?;
    /// assert_eq!(centres, 100);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn map_rows<U, R, F>(
        self,
        row_shape: R,
        function: F,
    ) -> Stream<'p, Map<S, F, U, <R::Dim as Dimension>::Larger>>
    where
        U: Element,
        R: IntoDimension,
        F: Fn(ArrayView<'_, S::Item, S::Dim>, ArrayViewMut<'_, U, <R::Dim as Dimension>::Larger>)
            + Send
            + Sync,
    {
        let rows_like = row_shape.into_dimension().insert_axis(Axis(0));
        self.then(|stage| Map::new(stage, function, Some(rows_like)))
    }

    /// Sets how much memory the stream may use, or how many rows a function gets at a time. Default: 64 MiB.
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let mean = Stream::from(&table).budget(Budget::bytes(8 << 20)).mean_axis0()?;
    /// assert_eq!(mean[0], 499.5);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// Sets a function that gets the progress. The arguments of the function are the number of processed rows, and the
    /// number of all rows.
    ///
    /// The function is called on the calling thread: before the first block of rows, after each block that this thread has
    /// processed, and once at the end. If the function returns [`ControlFlow::Break`], the stream fails with
    /// [`Cancelled`](crate::ErrorKind::Cancelled). The function may also return nothing.
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{ErrorKind, MmapArray, stream::Stream};
    ///
    /// let array = MmapArray::<f32, Ix2>::scratch((100, 3))?;
    /// let sum = Stream::from(&array).progress(|done, total| println!("{done}/{total}")).fold(0., |sum, rows| sum + rows.sum())?;
    /// let cancelled = Stream::from(&array).progress(|_, _| ControlFlow::Break(())).fold((), |(), _| ());
    /// assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Cancelled);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn progress<R: ProgressResult>(mut self, mut report: impl FnMut(usize, usize) -> R + 'p) -> Self {
        self.report = Some(Box::new(move |done, total| report(done, total).into_control_flow()));
        self
    }

    /// Sets how bytes are moved between memory and files. Default: [`Transfer::Auto`].
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let mean = Stream::from(&table).transfer(Transfer::Buffered).mean_axis0()?;
    /// assert_eq!(mean[0], 499.5);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn transfer(mut self, transfer: Transfer) -> Self {
        self.transfer = transfer;
        self
    }

    /// Sets how many threads read, process and write at the same time, including the calling thread: at least 1 and at most
    /// 256.
    ///
    /// Default: 3. With the feature `rayon`, the default is one more than the number of cores, or one more than the number
    /// of threads of the calling thread's rayon pool, if that is more than 3. On a worker of a rayon pool, a stream with
    /// functions always uses one thread: see the [module](crate::stream#threads).
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let mean = Stream::from(&table).threads(1).mean_axis0()?; // everything on this thread
    /// assert_eq!(mean[0], 499.5);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads.clamp(1, MAX_THREADS));
        self
    }

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

/// The maximum number of threads of a stream. More threads would only wait for each other.
const MAX_THREADS: usize = 256;

/// The result of a [progress](Stream::progress) function: nothing, or a [`ControlFlow`] that determines whether the
/// stream continues. The trait is sealed.
pub trait ProgressResult: sealed::Sealed {
    #[doc(hidden)]
    fn into_control_flow(self) -> ControlFlow<()>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl Sealed for std::ops::ControlFlow<()> {}
}

impl ProgressResult for () {
    fn into_control_flow(self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl ProgressResult for ControlFlow<()> {
    fn into_control_flow(self) -> ControlFlow<()> {
        self
    }
}
