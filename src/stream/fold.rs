//! The methods that end a pipeline by passing its rows to a function, in order.

use super::chunked::{Outcome, Rows, call};
use super::in_order::InOrder;
use super::pipeline::Stream;
use crate::error::{Error, Result};
use std::ops::Range;

impl<S: Rows> Stream<'_, S> {
    /// Folds the rows to a value: calls `function` with each chunk of rows, in order.
    ///
    /// The function runs on the calling thread, while other threads read ahead. (On a worker of a rayon pool, the
    /// calling thread reads as well.) Every chunk is in standard layout. The number of rows in a chunk depends on the
    /// budget: [`Budget::chunk_rows`](super::Budget::chunk_rows) sets this number.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::{Budget, Stream}};
    ///
    /// let array = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// let (chunks, sum) = Stream::from(&array)
    ///     .budget(Budget::chunk_rows(300))
    ///     .fold((0, 0.0), |(chunks, sum), chunk| (chunks + 1, sum + chunk.sum()))?;
    /// assert_eq!((chunks, sum), (4, 0.0));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// - An error of the calls that created this stream.
    /// - [`LengthMismatch`](crate::ErrorKind::LengthMismatch) if the source file is truncated meanwhile, and
    ///   [`Io`](crate::ErrorKind::Io) if it cannot be read.
    /// - [`Panicked`](crate::ErrorKind::Panicked) if a function of the caller panics.
    /// - [`Cancelled`](crate::ErrorKind::Cancelled) if the progress function asks to stop.
    pub fn fold<B>(self, initial: B, mut function: impl FnMut(B, S::Chunk<'_>) -> B) -> Result<B> {
        self.fold_chunks("fold", initial, |value, _, chunk| Ok(function(value, chunk)))
    }

    /// Folds the rows to a value, like [`fold`](Self::fold), with a function that also gets the numbers of the rows and
    /// that can fail.
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{ErrorKind, MmapArray, stream::Stream};
    ///
    /// let mut table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// table[[700, 2]] = f32::NAN;
    /// let checked = Stream::from(&table).try_fold(0.0, |sum, rows, chunk| {
    ///     match chunk.outer_iter().position(|row| row.iter().any(|value| value.is_nan())) {
    ///         None => Ok(sum + chunk.sum()),
    ///         Some(place) => Err(format!("NaN in row {}", rows.start + place)),
    ///     }
    /// });
    /// let error = checked.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::FunctionFailed);
    /// assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "NaN in row 700");
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`FunctionFailed`](crate::ErrorKind::FunctionFailed) if the function returns an error. This error is the
    ///   [`source`](std::error::Error::source) of the returned one. The function is not called again.
    /// - The errors of [`fold`](Self::fold).
    pub fn try_fold<B, E>(
        self,
        initial: B,
        mut function: impl FnMut(B, Range<usize>, S::Chunk<'_>) -> Result<B, E>,
    ) -> Result<B>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.fold_chunks("try_fold", initial, |value, rows, chunk| {
            function(value, rows, chunk).map_err(Error::of_function)
        })
    }

    /// Calls `function` with the number of each row and the row, in order, on the calling thread.
    ///
    /// The row is in standard layout, and has one dimension less than the array of all rows. The function returns nothing,
    /// or a `Result<(), E>`. An error ends the stream, as in [`try_fold`](Self::try_fold).
    ///
    /// ```
    /// use ndarray::{Array1, Ix2};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let table = MmapArray::<f32, Ix2>::scratch((1000, 3))?;
    /// let times = Array1::linspace(0.0, 99.9, 1000);
    /// let mut late = Vec::new();
    /// Stream::from(&table).zip(&times).for_each_row(|number, (row, time)| {
    ///     if time[()] > 99.85 {
    ///         late.push((number, row.sum()));
    ///     }
    /// })?;
    /// assert_eq!(late, [(999, 0.0)]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`try_fold`](Self::try_fold).
    pub fn for_each_row<O: Outcome>(self, mut function: impl FnMut(usize, S::Row<'_>) -> O) -> Result<()> {
        self.fold_chunks("for_each_row", (), |(), rows, chunk| {
            let mut numbered = rows.enumerate();
            numbered.try_for_each(|(index, row)| function(row, S::row(&chunk, index)).into_result())
        })
    }

    fn fold_chunks<B>(
        self,
        operation: &'static str,
        initial: B,
        mut function: impl FnMut(B, Range<usize>, S::Chunk<'_>) -> Result<B>,
    ) -> Result<B> {
        self.run_with_functions(operation, |job, progress| {
            let chunk_rows = job.budget.chosen_rows().unwrap_or(usize::MAX);
            let mut value = Some(initial);
            let plan = job.plan_chunks(job.threads_to_read());
            let load = |buffers: &mut S::Buffers, rows| job.stage.load(buffers, rows);
            let blocks = InOrder { plan, rows: job.rows(), load: &load };
            blocks.process_in_order(progress, &mut |rows, buffers| {
                let block = job.stage.chunk(buffers, rows.clone());
                for first in (0..rows.len()).step_by(chunk_rows) {
                    let part = first..first.saturating_add(chunk_rows).min(rows.len());
                    let chunk = S::part(&block, &part);
                    let numbers = rows.start + part.start..rows.start + part.end;
                    let before = value.take().expect("a chunk that took it and failed has ended the fold");
                    value = Some(call(|| function(before, numbers, chunk))??);
                }
                Ok(())
            })?;
            Ok(value.expect("every chunk that took it has put a new one back"))
        })
    }
}
