//! [`Stream`]: the source, the steps and the settings of a pipeline.

use super::budget::Budget;
use super::chunked::Rows;
use super::source::Source;
use super::stage::Element;
use super::workers::Report;
use crate::access::Access;
use crate::array::MmapArray;
use crate::error::{Error, Result};
use crate::io::Transfer;
use ndarray::{ArrayBase, ArrayRef, ArrayView, Data, Dimension};
use std::fmt;
use std::ops::ControlFlow;

/// A pipeline: the rows of a source, and the steps that select and change them.
///
/// `Stream::from(&array)` creates a stream of an [`MmapArray`], or of any array or view of ndarray. Nothing is read
/// before the call that ends the stream: [`write_to`](Self::write_to), [`copy_into`](Self::copy_into),
/// [`to_array`](Self::to_array), [`fold`](Self::fold) or a reduction. That call also returns the errors of the calls
/// before it.
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
    /// The first error of the calls that created this stream, such as a selection that is not valid.
    pub(super) failed: Option<Error>,
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

/// Settings.
impl<'p, S: Rows> Stream<'p, S> {
    pub(super) fn new(stage: S) -> Self {
        Self {
            stage,
            failed: None,
            budget: Budget::default(),
            transfer: Transfer::Auto,
            threads: None,
            skips_nan: false,
            report: None,
        }
    }

    /// Adds a step to the stream.
    pub(super) fn then<R: Rows>(self, step: impl FnOnce(S) -> R) -> Stream<'p, R> {
        let Self { stage, failed, budget, transfer, threads, skips_nan, report } = self;
        Stream { stage: step(stage), failed, budget, transfer, threads, skips_nan, report }
    }

    /// Calls `check`, which may change the step. If `check` returns an error, the stream fails with this error. If an
    /// earlier check has failed, this method does nothing.
    pub(super) fn check(mut self, check: impl FnOnce(&mut S) -> Result<()>) -> Self {
        if self.failed.is_none() {
            self.failed = check(&mut self.stage).err().map(|error| match self.stage.path() {
                Some(path) => error.at(&path),
                None => error,
            });
        }
        self
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

    /// Sets a function that the stream calls to report its progress. The arguments of the function are the number of
    /// processed rows, and the number of all rows.
    ///
    /// The function is called on the calling thread: before the first block of rows, after each block that this thread
    /// has processed, and once at the end. If the function returns [`ControlFlow::Break`], the stream fails with
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

    /// Sets how many threads read, process and write at the same time, including the calling thread: at least 1 and at
    /// most 256.
    ///
    /// Default: 3. With the feature `rayon`, the default is one more than the number of cores, or one more than the
    /// number of threads of the calling thread's rayon pool, if that is more than 3. On a worker of a rayon pool, a
    /// stream with functions always uses one thread: see the [module](crate::stream#threads).
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
}

/// The maximum number of threads of a stream. With more threads, the threads would mostly wait for each other.
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
