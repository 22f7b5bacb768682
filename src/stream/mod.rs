//! Moving many rows through little memory, at the speed of the disk.
//!
//! A [`Stream`] takes the rows of an array, selects and changes them, and writes them to a file, into another array, or
//! folds them to a value. What it reads and writes goes past the mappings, and past the page cache where it is not in it
//! already, so memory stays within the [`Budget`] whatever the size of the files, and an error of the disk is an
//! [`Error`](crate::Error), not a signal.
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
//!     .write_to(&out)?; // the name appears when every byte is on disk
//! assert_eq!(written.shape(), [90, 4, 3]);
//! assert_eq!(written.mean(), Some(1.25));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What happens to the bytes
//!
//! A source in a file is read in blocks of 2 MiB: from the page cache what is in it, past the cache (`O_DIRECT`) what is
//! not, so the cache is afterwards as it was. Listed rows are read many at once, in the order they lie in the file. Of a
//! [copy-on-write](crate::CopyOnWrite) array, changed pages are read from memory, the others from the file. A new file is
//! written past the cache as well; so is the inside of an array that is a destination, while its ends, next to which a
//! neighbour in the same file may store meanwhile, go through the cache. A few threads overlap reading, working and writing.
//! Where a filesystem cannot go past the cache, pages are written back and dropped close behind the stream, with
//! `RWF_DONTCACHE` where the kernel has it. [`Transfer`] overrides the choice.
//!
//! Rows of an array in Fortran order are scattered over its file. Streaming them works, but each block of rows touches
//! the whole file: unless both sides have the same order, give it a large budget.
//!
//! # Durability
//!
//! When [`write_to`](Stream::write_to) returns `Ok`, data and name are on disk. Until then the name does not exist, or is
//! still that of the file it had been: a pipeline that is killed, cancelled or fails leaves the whole result or nothing. When
//! [`copy_into`](Stream::copy_into) returns `Ok`, what it wrote to a mapped array is on disk; after an error, the
//! destination holds some of the new rows.

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

/// A pipeline: rows of a source, what is done to them, and where they go.
///
/// Made of an array by `Stream::from(&array)`: an [`MmapArray`], or any array or view of ndarray. Nothing happens before
/// one of the last calls: [`write_to`](Self::write_to), [`copy_into`](Self::copy_into), [`fold`](Self::fold) and the
/// reductions. They report what was wrong with the calls before.
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

/// Which rows and columns of the source, relative to what the calls before have left.
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

/// What is done to the rows, and how.
impl<'p, S: Stage> Stream<'p, S> {
    fn new(stage: S) -> Self {
        Self { stage, budget: Budget::default(), transfer: Transfer::Auto, threads: None, report: None }
    }

    /// The same stream with another last step.
    fn then<R: Stage>(self, step: impl FnOnce(S) -> R) -> Stream<'p, R> {
        let Self { stage, budget, transfer, threads, report } = self;
        Stream { stage: step(stage), budget, transfer, threads, report }
    }

    /// Converts every element, as `as` does.
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

    /// Makes rows of the same shape by a function. It is given a chunk of rows and room for what it makes of them.
    ///
    /// The function works row by row, for it does not know where chunks begin; several threads call it, one chunk each,
    /// and the rows it made stand in their order all the same. If it panics, the stream ends with
    /// [`Panicked`](crate::ErrorKind::Panicked) and nothing is published.
    pub fn map<U, F>(self, function: F) -> Stream<'p, Map<S, F, U, S::Dim>>
    where
        U: Element,
        F: Fn(ArrayView<'_, S::Item, S::Dim>, ArrayViewMut<'_, U, S::Dim>) + Send + Sync,
    {
        self.then(|stage| Map::new(stage, function, None))
    }

    /// Makes rows of another shape by a function: as [`map`](Self::map), with room for rows of `row_shape`.
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

    /// How much memory it may take, or how many rows the functions get at once. Default: 64 MiB.
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

    /// A function to call now and then, on this thread, with the numbers of rows done and in all. It ends the stream by
    /// returning [`ControlFlow::Break`], as [`Cancelled`](crate::ErrorKind::Cancelled); or returns nothing.
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

    /// How many threads read, work and write at the same time, this one included; 1 means this one alone. Default: 3, or
    /// with the feature `rayon` one more than there are cores, or threads in the rayon pool that calls, if that is more. At
    /// most 256.
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

    /// Hides which steps there are, so that streams of different steps have one type: to [`concat`](fn@concat) them, or keep them.
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

/// What a [progress](Stream::progress) function may return: nothing, or whether to go on.
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
