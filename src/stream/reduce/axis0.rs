//! Reductions along axis 0: one result for each column.

use super::extremes::Extremes;
use super::moments::Moments;
use super::total::{Spread, Total};
use super::{Per, Row, TwoRows, check_ddof, in_row_shape};
use crate::error::Result;
use crate::stream::Stream;
use crate::stream::stage::Stage;
use ndarray::RemoveAxis;
use num_traits::AsPrimitive;

/// Reductions along axis 0, as in numpy with `axis=0`.
///
/// Sums are computed exactly and rounded once at the end. Therefore the results are the same, bit for bit, for every
/// [budget](Self::budget), number of [threads](Self::threads) and order of the rows. Integers of all sizes are added
/// exactly. Elements of all other types are first converted to `f64`.
impl<S: Stage> Stream<'_, S>
where
    S::Dim: RemoveAxis,
{
    /// Returns the sum of each column, correctly rounded to `f64`. If there are no rows, the sums are zero.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// let values = array![[1e100, 1_f64], [1.0, 2.0], [-1e100, 3.0]];
    /// assert_eq!(Stream::from(&values).sum_axis0()?, array![1.0, 6.0]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`fold`](Self::fold); [`OutOfBounds`](crate::ErrorKind::OutOfBounds) for an array of zero dimensions.
    pub fn sum_axis0(self) -> Result<Row<f64, S::Dim>>
    where
        S::Item: AsPrimitive<f64>,
    {
        self.sums_axis0("sum_axis0", |total, _| total.sum())
    }

    /// Returns the mean of each column, correctly rounded to `f64`. If there are no rows, the means are NaN.
    ///
    /// ```
    /// use ndarray::{Ix2, array};
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let mut array = MmapArray::<f32, Ix2>::scratch((1000, 2))?;
    /// array.column_mut(1).fill(0.5);
    /// assert_eq!(Stream::from(&array).mean_axis0()?, array![0.0, 0.5]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`sum_axis0`](Self::sum_axis0).
    pub fn mean_axis0(self) -> Result<Row<f64, S::Dim>>
    where
        S::Item: AsPrimitive<f64>,
    {
        self.sums_axis0("mean_axis0", Total::mean)
    }

    /// Returns the variance of each column: the sum of the squared distances from the mean, divided by the number of rows
    /// minus `ddof` (0 for a population, 1 for a sample).
    ///
    /// The result differs from the exact variance by at most 1 ulp, however far from zero the values are. The result is
    /// NaN if there are no rows, and for columns with infinities or NaN.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// let values = array![[1e15, 1_f64], [1e15 + 1.0, 1.0], [1e15 + 2.0, 1.0]];
    /// assert_eq!(Stream::from(&values).var_axis0(1.0)?, array![1.0, 0.0]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) unless `ddof` is between 0 and the number of rows; otherwise as for
    /// [`sum_axis0`](Self::sum_axis0).
    pub fn var_axis0(self, ddof: f64) -> Result<Row<f64, S::Dim>>
    where
        S::Item: AsPrimitive<f64>,
    {
        self.spread_axis0("var_axis0", ddof, Spread::Variance)
    }

    /// Returns the standard deviation of each column: the square root of [`var_axis0`](Self::var_axis0). The result differs
    /// from the exact value by at most 1 ulp, even if the variance itself would overflow.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// let values = array![[1.0, 1e200], [5.0, -1e200]];
    /// assert_eq!(Stream::from(&values).std_axis0(0.0)?, array![2.0, 1e200]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`var_axis0`](Self::var_axis0).
    pub fn std_axis0(self, ddof: f64) -> Result<Row<f64, S::Dim>>
    where
        S::Item: AsPrimitive<f64>,
    {
        self.spread_axis0("std_axis0", ddof, Spread::Deviation)
    }

    /// Returns the smallest and the largest element of each column, or `None` if there are no rows. The result of a
    /// column that contains NaN is NaN, as in numpy; see [`skip_nan`](Self::skip_nan). If elements
    /// compare equal, such as `0.0` and `-0.0`, the result may be any of them.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// let values = array![[3, 10], [1, 30], [2, 20]];
    /// assert_eq!(Stream::from(&values).min_max_axis0()?, Some((array![1, 10], array![3, 30])));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`sum_axis0`](Self::sum_axis0).
    pub fn min_max_axis0(self) -> Result<Option<TwoRows<S::Item, S::Dim>>>
    where
        S::Item: PartialOrd,
    {
        let (bytes, new, add) = (2 * size_of::<S::Item>(), Extremes::new, Extremes::add);
        let reduced = self.reduce("min_max_axis0", Per::Column, bytes, |_| Ok(()), new, add)?;
        let shape = reduced.shape.clone();
        let extremes = reduced.extremes("min_max_axis0")?;
        Ok(extremes
            .map(|(smallest, largest)| (in_row_shape(&shape, smallest), in_row_shape(&shape, largest))))
    }

    fn sums_axis0(
        self,
        operation: &'static str,
        finish: impl Fn(&mut Total, u64) -> f64,
    ) -> Result<Row<f64, S::Dim>>
    where
        S::Item: AsPrimitive<f64>,
    {
        let (bytes, new) = (Moments::SUM_BYTES, Moments::sums);
        let reduced = self.reduce(operation, Per::Column, bytes, |_| Ok(()), new, Moments::add)?;
        Ok(in_row_shape(&reduced.shape, reduced.per_column(finish)))
    }

    fn spread_axis0(self, operation: &'static str, ddof: f64, kind: Spread) -> Result<Row<f64, S::Dim>>
    where
        S::Item: AsPrimitive<f64>,
    {
        let (bytes, check) = (Moments::SQUARES_BYTES, |count| check_ddof(ddof, count));
        let reduced = self.reduce(operation, Per::Column, bytes, check, Moments::squares, Moments::add)?;
        Ok(in_row_shape(&reduced.shape, reduced.spreads(ddof, kind)))
    }
}
