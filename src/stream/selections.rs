//! The methods of [`Stream`] that select rows, and indices of other axes.

use super::chunked::Rows;
use super::indices::Indices;
use super::picked::Picked;
use super::pipeline::Stream;
use super::rows::{self, RowRange};
use super::stage::{Stage, rows_of};
use crate::error::{Error, ErrorKind, Result};
use ndarray::{Axis, Dimension};

/// Selections of rows. Each selection applies to the result of the calls before it.
///
/// A selection can follow any step. Only the selected rows are read, and only these rows are passed to functions.
impl<S: Rows> Stream<'_, S> {
    /// Keeps a range of rows, optionally with a step: `1000..`, `..=5`, `s![..;10]`, `Slice::from(..).step_by(10)`.
    ///
    /// If the range ends after the last row of the stream, it is shortened to end with the last row.
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
    pub fn rows(self, range: impl RowRange) -> Self {
        self.pick_rows(|rows| rows::pick(&range, rows))
    }

    /// Keeps the rows of a list, in the order of the list, or the rows for which a boolean mask contains `true`: see
    /// [`Indices`]. Rows may be repeated. Negative numbers count from the end. The stream keeps a copy of the list. The
    /// [budget](Self::budget) includes this copy, but at most half of the budget is used for it.
    ///
    /// The stream fails with [`OutOfBounds`](crate::ErrorKind::OutOfBounds) if a row does not exist, and with
    /// [`ShapeMismatch`](crate::ErrorKind::ShapeMismatch) if a mask has another length than there are rows.
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
    pub fn select_rows<I: Indices + ?Sized>(self, rows: &I) -> Self {
        self.pick_rows(|len| rows.pick(0, len))
    }

    fn pick_rows(self, pick: impl FnOnce(usize) -> Result<Picked>) -> Self {
        self.check(|stage| {
            let shape = stage.shape();
            need_axis(&shape, Axis(0))?;
            stage.pick_rows(&pick(rows_of(&shape))?);
            Ok(())
        })
    }
}

/// Selections of other axes.
impl<S: Stage> Stream<'_, S> {
    /// Keeps the indices of a list along an axis, in the order of the list, or the indices for which a boolean mask
    /// contains `true`: see [`Indices`]. Indices may be repeated. Negative indices count from the end.
    ///
    /// If the selection follows [`map`](Stream::map) or a similar step, the function of that step still computes whole
    /// rows: the function gets the same chunks as without the selection.
    ///
    /// The stream fails with [`OutOfBounds`](crate::ErrorKind::OutOfBounds) if the axis or an index does not exist, and
    /// with [`ShapeMismatch`](crate::ErrorKind::ShapeMismatch) if a mask has another length than the axis.
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
    pub fn select<I: Indices + ?Sized>(self, axis: Axis, indices: &I) -> Self {
        self.check(|stage| {
            let shape = stage.shape();
            need_axis(&shape, axis)?;
            stage.pick(axis, &indices.pick(axis.index(), shape[axis.index()])?);
            Ok(())
        })
    }
}

/// Returns an error if an array of this shape does not have the axis.
fn need_axis(shape: &impl Dimension, axis: Axis) -> Result<()> {
    if axis.index() < shape.ndim() {
        return Ok(());
    }
    let expected = format!("an array that has axis {}", axis.index());
    let found = format!("an array of {} dimensions", shape.ndim());
    Err(Error::new(ErrorKind::OutOfBounds, "stream", expected, found).with_remedy("axes are counted from 0"))
}
