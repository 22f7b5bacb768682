//! [`Rows`]: rows that functions of the caller get in chunks in standard layout.

use super::picked::Picked;
use super::reader::Reader;
use super::stage::{BlockBuffer, Choices, RowBytes, Stage, assign, row_bytes_of, sealed, slice_rows};
use crate::error::{Error, ErrorKind, Result};
use ndarray::{ArrayView, Axis, Dimension};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

/// Rows that functions can be applied to: the rows of a [`Stage`], or of two streams side by side
/// ([`Zip`](super::Zip)). The trait is sealed.
///
/// ```
/// use ndarray::{Ix1, Ix2};
/// use ndarray_mmap::{MmapArray, Result, stream::{Rows, Stream}};
///
/// fn count_rows<S: Rows>(stream: Stream<'_, S>) -> Result<usize> {
///     stream.try_fold(0, |_, rows, _| Ok::<_, std::io::Error>(rows.end))
/// }
/// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
/// let times = MmapArray::<f64, Ix1>::scratch(1000)?;
/// assert_eq!(count_rows(Stream::from(&table).zip(&times).rows(..10))?, 10);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub trait Rows: Sized + Send + Sync + sealed::Sealed {
    /// The dimensions of the array that contains all rows. For two streams side by side, those of the first stream.
    type Dim: Dimension;

    /// A chunk of rows. For a [`Stage`], this is an [`ArrayView`] in standard layout. For two streams side by side,
    /// this is a pair of their chunks.
    type Chunk<'c>;

    /// One row of a chunk. For a [`Stage`], this is an [`ArrayView`] in standard layout that has one dimension less
    /// than the chunk. For two streams side by side, this is a pair of their rows.
    type Row<'c>;

    /// The buffers that one thread needs to load chunks.
    #[doc(hidden)]
    type Buffers: Default + Send + 'static;

    /// Keeps only the selected rows. This method is called before [`prepare`](Self::prepare).
    #[doc(hidden)]
    fn pick_rows(&mut self, picked: &Picked);

    #[doc(hidden)]
    fn path(&self) -> Option<PathBuf>;

    #[doc(hidden)]
    fn held_bytes(&self) -> usize;

    #[doc(hidden)]
    fn prepare(&mut self, choices: Choices) -> Result<()>;

    #[doc(hidden)]
    fn shape(&self) -> Self::Dim;

    /// Returns how much memory the buffers need for each row.
    #[doc(hidden)]
    fn row_bytes(&self) -> RowBytes;

    #[doc(hidden)]
    fn is_warm(&self) -> bool;

    #[doc(hidden)]
    fn calls_functions(&self) -> bool;

    #[doc(hidden)]
    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>));

    #[doc(hidden)]
    fn load(&self, buffers: &mut Self::Buffers, rows: Range<usize>) -> Result<()>;

    /// Returns the rows that were loaded last. `rows` must be the same as for [`load`](Self::load).
    #[doc(hidden)]
    fn chunk<'s>(&'s self, buffers: &'s Self::Buffers, rows: Range<usize>) -> Self::Chunk<'s>;

    /// Returns some rows of a chunk.
    #[doc(hidden)]
    fn part<'c>(chunk: &Self::Chunk<'c>, rows: &Range<usize>) -> Self::Chunk<'c>;

    /// Returns one row of a chunk.
    #[doc(hidden)]
    fn row<'c>(chunk: &Self::Chunk<'c>, index: usize) -> Self::Row<'c>;
}

/// The buffers of a step, and a buffer for a block that the step does not load in standard layout.
#[derive(Debug, Default)]
pub struct ChunkBuffers<S> {
    before: S,
    copy: BlockBuffer,
}

/// Every block that is not in standard layout is copied to a buffer.
impl<S: Stage> Rows for S {
    type Dim = <S as Stage>::Dim;
    type Chunk<'c> = ArrayView<'c, S::Item, <S as Stage>::Dim>;
    type Row<'c> = ArrayView<'c, S::Item, <<S as Stage>::Dim as Dimension>::Smaller>;
    type Buffers = ChunkBuffers<S::State>;

    fn pick_rows(&mut self, picked: &Picked) {
        self.pick(Axis(0), picked);
    }

    fn path(&self) -> Option<PathBuf> {
        Stage::path(self)
    }

    fn held_bytes(&self) -> usize {
        Stage::held_bytes(self)
    }

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        Stage::prepare(self, choices)
    }

    fn shape(&self) -> <S as Stage>::Dim {
        Stage::shape(self)
    }

    fn row_bytes(&self) -> RowBytes {
        let loaded = Stage::row_bytes(self);
        match self.is_standard_layout() {
            true => loaded,
            false => loaded.and(row_bytes_of::<S::Item, <S as Stage>::Dim>(&Stage::shape(self))),
        }
    }

    fn is_warm(&self) -> bool {
        Stage::is_warm(self)
    }

    fn calls_functions(&self) -> bool {
        Stage::calls_functions(self)
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        Stage::reads(self, note);
    }

    fn load(&self, buffers: &mut Self::Buffers, rows: Range<usize>) -> Result<()> {
        Stage::load(self, &mut buffers.before, rows.clone())?;
        let block = self.view(&buffers.before, rows);
        if !block.is_standard_layout() {
            assign(&block, buffers.copy.view_mut(block.raw_dim())?);
        }
        Ok(())
    }

    fn chunk<'s>(&'s self, buffers: &'s Self::Buffers, rows: Range<usize>) -> Self::Chunk<'s> {
        let block = self.view(&buffers.before, rows);
        if block.is_standard_layout() { block } else { buffers.copy.view(block.raw_dim()) }
    }

    fn part<'c>(chunk: &Self::Chunk<'c>, rows: &Range<usize>) -> Self::Chunk<'c> {
        slice_rows(chunk, rows)
    }

    fn row<'c>(chunk: &Self::Chunk<'c>, index: usize) -> Self::Row<'c> {
        let shape = chunk.raw_dim().try_remove_axis(Axis(0));
        let len = shape.size();
        let items = chunk.to_slice().expect("a chunk is in standard layout");
        ArrayView::from_shape(shape, &items[index * len..][..len]).expect("a row is in standard layout")
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

/// The result of a function of the caller: nothing, or a `Result<(), E>`. The trait is sealed.
pub trait Outcome: outcome::Sealed {
    #[doc(hidden)]
    fn into_result(self) -> Result<()>;
}

mod outcome {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}

impl Outcome for () {
    fn into_result(self) -> Result<()> {
        Ok(())
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> Outcome for Result<(), E> {
    fn into_result(self) -> Result<()> {
        self.map_err(Error::of_function)
    }
}
