//! [`Zip`]: the rows of two streams side by side.

use super::chunked::Rows;
use super::concat::Part;
use super::picked::Picked;
use super::pipeline::Stream;
use super::reader::Reader;
use super::stage::sealed::Sealed;
use super::stage::{Choices, RowBytes, Stage, rows_of};
use crate::error::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::PathBuf;

/// The rows of two streams side by side: see [`Stream::zip`].
///
/// ```
/// use ndarray::{Array1, Ix1};
/// use ndarray_mmap::{MmapArray, stream::{Source, Stream, Zip}};
///
/// let array = MmapArray::<f32, Ix1>::scratch(100)?;
/// let weights = Array1::<f64>::ones(100);
/// let pairs: Stream<'_, Zip<Source<'_, f32, Ix1>, Source<'_, f64, Ix1>>> = Stream::from(&array).zip(&weights);
/// assert_eq!(pairs.fold(0.0, |sum, (_, weights)| sum + weights.sum())?, 100.0);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Debug)]
pub struct Zip<A, B> {
    first: A,
    second: B,
}

impl<'p, S: Rows> Stream<'p, S> {
    /// Puts the rows of another stream beside the rows of this stream. Functions of the new stream get pairs: `|(a, b),
    /// out| ..`.
    ///
    /// `other` is an array, a view or a stream. It has the same number of rows as this stream, and can have other elements
    /// and another number of dimensions. The chunks of a pair contain the same rows. [`map`](Self::map) and
    /// [`map_each`](Self::map_each) return rows of the shape of the first stream, and [`map_rows`](Self::map_rows) returns
    /// rows of any shape. Zip again for more than two streams: `a.zip(&b).zip(&c).map(|((a, b), c), out| ..)`.
    ///
    /// [`rows`](Self::rows) and [`select_rows`](Self::select_rows) select the same rows of both streams. The settings
    /// of `other` (budget, progress, transfer and threads) are ignored: call these methods on the stream that this
    /// method returns.
    ///
    /// ```
    /// use ndarray::{Array1, Ix2};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// # let mut walk = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// # walk.outer_iter_mut().enumerate().for_each(|(row, mut values)| values.fill(row as f32));
    /// let (lag, steps) = (10, walk.nrows());
    /// let displaced = Stream::from(&walk)
    ///     .rows(lag..)
    ///     .zip(Stream::from(&walk).rows(..steps - lag))
    ///     .map(|(later, earlier), mut out| out.assign(&(&later - &earlier)))
    ///     .mean_axis0()?;
    /// assert_eq!(displaced[0], 10.0);
    ///
    /// let weights = Array1::linspace(0.0, 1.0, 1000); // in memory
    /// let weighted = Stream::from(&walk).zip(&weights).fold(0.0, |sum, (rows, weights)| {
    ///     sum + rows.column(0).iter().zip(weights).map(|(&x, weight)| f64::from(x) * weight).sum::<f64>()
    /// })?;
    /// assert!((weighted - 999_500.0 / 3.0).abs() < 1e-6);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// If the numbers of rows differ, the call that ends the stream returns [`ShapeMismatch`](ErrorKind::ShapeMismatch).
    pub fn zip<P: Part>(self, other: P) -> Stream<'p, Zip<S, P::Stage>> {
        let (second, failed) = other.into_stage();
        let rows = (rows_of(&self.stage.shape()), rows_of(&Stage::shape(&second)));
        let stream = self.then(|first| Zip { first, second });
        stream.check(|_| {
            failed.map_or(Ok(()), Err)?;
            if rows.0 == rows.1 {
                return Ok(());
            }
            let expected = format!("a stream of {} rows to `zip` with", rows.0);
            Err(Error::new(ErrorKind::ShapeMismatch, "stream", expected, format!("one of {} rows", rows.1))
                .with_remedy("select the same number of rows of both streams by `rows`"))
        })
    }
}

impl<A, B> Sealed for Zip<A, B> {}

impl<A: Rows, B: Rows> Rows for Zip<A, B> {
    type Dim = A::Dim;
    type Chunk<'c> = (A::Chunk<'c>, B::Chunk<'c>);
    type Row<'c> = (A::Row<'c>, B::Row<'c>);
    type Buffers = (A::Buffers, B::Buffers);

    fn pick_rows(&mut self, picked: &Picked) {
        self.first.pick_rows(picked);
        self.second.pick_rows(picked);
    }

    fn path(&self) -> Option<PathBuf> {
        self.first.path().or_else(|| self.second.path())
    }

    fn held_bytes(&self) -> usize {
        self.first.held_bytes() + self.second.held_bytes()
    }

    fn prepare(&mut self, choices: Choices) -> Result<()> {
        self.first.prepare(choices)?;
        self.second.prepare(choices)
    }

    fn shape(&self) -> A::Dim {
        self.first.shape()
    }

    fn row_bytes(&self) -> RowBytes {
        self.first.row_bytes().and_all(self.second.row_bytes())
    }

    fn is_warm(&self) -> bool {
        self.first.is_warm() && self.second.is_warm()
    }

    fn calls_functions(&self) -> bool {
        self.first.calls_functions() || self.second.calls_functions()
    }

    fn reads(&self, note: &mut dyn FnMut(&Reader, Range<u64>)) {
        self.first.reads(note);
        self.second.reads(note);
    }

    fn load(&self, buffers: &mut Self::Buffers, rows: Range<usize>) -> Result<()> {
        self.first.load(&mut buffers.0, rows.clone())?;
        self.second.load(&mut buffers.1, rows)
    }

    fn chunk<'s>(&'s self, buffers: &'s Self::Buffers, rows: Range<usize>) -> Self::Chunk<'s> {
        (self.first.chunk(&buffers.0, rows.clone()), self.second.chunk(&buffers.1, rows))
    }

    fn part<'c>(chunk: &Self::Chunk<'c>, rows: &Range<usize>) -> Self::Chunk<'c> {
        (A::part(&chunk.0, rows), B::part(&chunk.1, rows))
    }

    fn row<'c>(chunk: &Self::Chunk<'c>, index: usize) -> Self::Row<'c> {
        (A::row(&chunk.0, index), B::row(&chunk.1, index))
    }
}
