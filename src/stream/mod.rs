//! Pipelines that move many rows through little memory, at the speed of the disk.
//!
//! A [`Stream`] takes the rows of an array, selects and changes them, and writes them to a file or into another array, or
//! folds them to a value. It reads and writes by system calls, not through the mappings, and bypasses the page cache for
//! data that is not cached. So memory stays within the [`Budget`] whatever the size of the files, and a failure of the disk
//! is an [`Error`](crate::Error), not a signal.
//!
//! ```
//! use ndarray::{Axis, Ix3};
//! use ndarray_mmap::{MmapArray, stream::Stream};
//!
//! # let folder = tempfile::tempdir()?;
//! # let (path, out) = (folder.path().join("traj.npy"), folder.path().join("nm.npy"));
//! # MmapArray::<f32, Ix3>::create(&path, (100, 20, 3))?.fill(12.5);
//! let trajectory = MmapArray::<f32, Ix3>::open(&path)?;
//! let backbone = [0, 4, 5, 9];
//! let written = Stream::from(&trajectory)
//!     .rows(10..)
//!     .select(Axis(1), &backbone)
//!     .map(|chunk, mut out| out.assign(&(&chunk / 10.0)))
//!     .cast::<f64>()
//!     .write_to(&out)?; // the file appears when it is complete and synced
//! assert_eq!(written.shape(), [90, 4, 3]);
//! assert_eq!(written.mean(), Some(1.25));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What happens to the bytes
//!
//! - **Reading.** A source in a file is read in blocks of 2 MiB: cached blocks from the page cache, the others by direct I/O
//!   (`O_DIRECT`), so the page cache does not change. Listed rows are read many at a time, in the order of the file. Changed
//!   pages of a [copy-on-write](crate::CopyOnWrite) array are read from memory.
//! - **Writing.** A new file is written by direct I/O. So is a destination array, except for its first and last pages: these
//!   go through the page cache, because other arrays may store to the same pages.
//! - **Threads.** A few threads overlap reading, computing and writing.
//! - **Filesystems without direct I/O.** The stream writes through the page cache, and drops the pages shortly afterwards,
//!   with `RWF_DONTCACHE` where the kernel has it. [`Transfer`] overrides the choice.
//! - **Fortran order.** The rows of such an array are scattered over its file, so each block of rows reads the whole file.
//!   Use a large budget, unless source and destination both have this order.
//!
//! # Durability
//!
//! When [`write_to`](Stream::write_to) returns `Ok`, the file and its name are on disk. Until then, the name does not exist
//! or names the older file. A pipeline that fails, is cancelled or is killed leaves either the whole result or nothing. When
//! [`copy_into`](Stream::copy_into) returns `Ok`, the rows in a mapped destination are on disk. After an error, the
//! destination contains some of the new rows.

mod budget;
mod chunks;
mod concat;
mod copy;
mod fold;
#[cfg(test)]
mod injected;
mod job;
mod layout;
mod probe;
mod reader;
mod reduce;
mod rows;
mod select;
mod sink;
mod source;
mod stage;
mod steps;
mod workers;
mod write;

pub use self::budget::Budget;
pub use self::chunks::{RowChunks, RowChunksMut};
pub use self::concat::{Boxed, Concat, concat};
pub use self::copy::copy;
pub use self::probe::Transfer;
pub use self::rows::RowRange;
pub use self::source::Source;
pub use self::stage::{Element, Stage};
pub use self::steps::{Cast, Map};

use self::workers::Report;
use crate::access::Access;
use crate::array::MmapArray;
use ndarray::{ArrayBase, ArrayRef, ArrayView, ArrayViewMut, Axis, Data, Dimension, IntoDimension};
use num_traits::AsPrimitive;
use std::fmt;
use std::ops::ControlFlow;

/// A pipeline: the rows of a source, the steps that change them, and the call that consumes them.
///
/// `Stream::from(&array)` makes a stream of an [`MmapArray`], or of any array or view of ndarray. Nothing is read before one
/// of the consuming calls: [`write_to`](Self::write_to), [`copy_into`](Self::copy_into), [`fold`](Self::fold) and the
/// reductions. The consuming call also reports what was wrong with earlier calls, such as an index past the end.
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
#[must_use = "a stream does nothing before `write_to`, `copy_into`, `fold` or a reduction"]
pub struct Stream<'p, S> {
    stage: S,
    budget: Budget,
    transfer: Transfer,
    threads: Option<usize>,
    report: Option<Report<'p>>,
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
        Self::new(Source::checked(array.view_even_if_closed(), array.mapping().check_open("stream")))
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

/// Selection of rows and columns. Each call selects from what the earlier calls have left.
impl<'a, T: Element, D: Dimension> Stream<'_, Source<'a, T, D>> {
    /// Keeps a range of rows, with a step if there is one: `1000..`, `..=5`, `s![..;10]`, `Slice::from(..).step_by(10)`.
    ///
    /// Rows past the end are ignored.
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

    /// Keeps the listed rows, in this order, repeats allowed. An index past the end is
    /// [`OutOfBounds`](crate::ErrorKind::OutOfBounds).
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

    /// Keeps the listed indices of an axis, in this order, repeats allowed. An axis that is not there, and an index past
    /// its end, is [`OutOfBounds`](crate::ErrorKind::OutOfBounds).
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

/// Steps that change the rows, and options.
impl<'p, S: Stage> Stream<'p, S> {
    fn new(stage: S) -> Self {
        Self { stage, budget: Budget::default(), transfer: Transfer::Auto, threads: None, report: None }
    }

    /// The same stream with another last step.
    fn then<R: Stage>(self, step: impl FnOnce(S) -> R) -> Stream<'p, R> {
        let Self { stage, budget, transfer, threads, report } = self;
        Stream { stage: step(stage), budget, transfer, threads, report }
    }

    /// Converts every element as the operator `as` does.
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

    /// Replaces each row by one of the same shape. The function receives a chunk of rows, and a chunk of the same size for
    /// its results.
    ///
    /// Several threads call the function on different chunks, whose limits the caller cannot know. So the result for a row
    /// must not depend on other rows. The rows keep their order. If the function panics, the stream fails with
    /// [`Panicked`](crate::ErrorKind::Panicked), and no file appears.
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let halves = Stream::from(&table).map(|rows, mut out| out.assign(&(&rows * 0.5)));
    /// assert_eq!(halves.min_max()?, Some((0.0, 499.5)));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn map<U, F>(self, function: F) -> Stream<'p, Map<S, F, U, S::Dim>>
    where
        U: Element,
        F: Fn(ArrayView<'_, S::Item, S::Dim>, ArrayViewMut<'_, U, S::Dim>) + Send + Sync,
    {
        self.then(|stage| Map::new(stage, function, None))
    }

    /// Replaces each row by one of another shape: as [`map`](Self::map), but the results have the shape `row_shape`.
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

    /// How much memory the stream may use, or how many rows a function receives at once. Default: 64 MiB.
    ///
    /// ```
    /// # use ndarray::{Axis, Ix2, s};
    /// # use ndarray_mmap::{MmapArray, stream::{Budget, Stream, Transfer}};
    /// # let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # table.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let chunks = Stream::from(&table).budget(Budget::rows(100)).fold(0, |chunks, _| chunks + 1)?;
    /// assert_eq!(chunks, 10);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// A function that the stream calls repeatedly, on this thread, with the number of finished rows and of all rows. The
    /// function returns nothing, or a [`ControlFlow`]: `Break` ends the stream with
    /// [`Cancelled`](crate::ErrorKind::Cancelled).
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
    pub fn progress<R: GoOn>(mut self, mut report: impl FnMut(usize, usize) -> R + 'p) -> Self {
        self.report = Some(Box::new(move |done, total| report(done, total).into_control_flow()));
        self
    }

    /// How bytes move between memory and files. Default: [`Transfer::Auto`].
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

    /// How many threads read, compute and write, including the calling thread; at most 256. Default: 3, or with the feature
    /// `rayon` one more than the number of cores (or of threads in the calling rayon pool), if that is more.
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
        self.threads = Some(threads.clamp(1, MOST_THREADS));
        self
    }

    /// Hides the types of the steps: streams with different steps get one type, for [`concat`](fn@concat) or a `Vec`.
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

/// More threads than this would only wait for each other.
const MOST_THREADS: usize = 256;

/// The return types of a [progress](Stream::progress) function: `()`, or [`ControlFlow<()>`](ControlFlow).
///
/// ```
/// fn accepts<R: ndarray_mmap::stream::GoOn>(_progress: impl FnMut(usize, usize) -> R) {}
/// accepts(|done, total| println!("{done} of {total}"));
/// ```
pub trait GoOn {
    #[doc(hidden)]
    fn into_control_flow(self) -> ControlFlow<()>;
}

impl GoOn for () {
    fn into_control_flow(self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl GoOn for ControlFlow<()> {
    fn into_control_flow(self) -> ControlFlow<()> {
        self
    }
}
