//! Reductions along axis 0: one result for each column.

use super::extremes::Extremes;
use super::moments::{Moments, per_column, spreads};
use super::total::{Spread, Total};
use super::{Holes, check_ddof, elements_of_row, in_c_order};
use crate::error::{Error, ErrorKind, Result};
use crate::stream::Stream;
use crate::stream::stage::{Stage, rows_of};
use ndarray::{Array, Axis, Dimension, RemoveAxis};
use num_traits::AsPrimitive;

/// An array with the shape of a row.
type Row<T, D> = Array<T, <D as Dimension>::Smaller>;

/// Two arrays with the shape of a row.
type TwoRows<T, D> = (Row<T, D>, Row<T, D>);

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
    /// As for [`fold`](Self::fold); [`OutOfBounds`](ErrorKind::OutOfBounds) for an array of zero dimensions.
    pub fn sum_axis0(self) -> Result<Row<f64, S::Dim>>
    where
        S::Item: AsPrimitive<f64>,
    {
        let (shape, parts) =
            self.moments_axis0("sum_axis0", Moments::SUM_BYTES, Moments::sums, |_| Ok(()))?;
        Ok(in_row_shape(&shape, per_column(&parts, elements_of_row(&shape), Total::sum)))
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
        let (shape, parts) =
            self.moments_axis0("mean_axis0", Moments::SUM_BYTES, Moments::sums, |_| Ok(()))?;
        let mean = |total: &mut Total| total.mean(rows_of(&shape) as u64);
        Ok(in_row_shape(&shape, per_column(&parts, elements_of_row(&shape), mean)))
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
    /// [`InvalidInput`](ErrorKind::InvalidInput) unless `ddof` is between 0 and the number of rows; otherwise as for
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
    /// column that contains NaN is NaN, as in numpy; see [`nan_min_max_axis0`](Self::nan_min_max_axis0). If elements
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
        self.extremes_axis0::<false>("min_max_axis0")
    }

    /// Returns the smallest and the largest element of each column, ignoring NaN. Returns `None` if there are no rows.
    /// The result of a column that contains only NaN is NaN.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// let values = array![[3.0, f32::NAN], [1.0, 5.0], [f32::NAN, f32::NAN]];
    /// assert_eq!(Stream::from(&values).nan_min_max_axis0()?, Some((array![1.0, 5.0], array![3.0, 5.0])));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`sum_axis0`](Self::sum_axis0).
    pub fn nan_min_max_axis0(self) -> Result<Option<TwoRows<S::Item, S::Dim>>>
    where
        S::Item: PartialOrd,
    {
        self.extremes_axis0::<true>("nan_min_max_axis0")
    }

    fn moments_axis0(
        self,
        operation: &'static str,
        column_bytes: usize,
        new: impl Fn(usize) -> Moments + Sync,
        check: impl FnOnce(&S::Dim) -> Result<()>,
    ) -> Result<(S::Dim, Vec<Moments>)>
    where
        S::Item: AsPrimitive<f64>,
    {
        self.collect_parts(
            operation,
            |shape| need_rows(shape).and_then(|()| check(shape)),
            |shape| elements_of_row(shape).saturating_mul(column_bytes),
            |shape| new(elements_of_row(shape)),
            |part, block| part.add(&in_c_order(block)),
            Holes::for_sums::<S::Item>(),
        )
    }

    fn spread_axis0(self, operation: &'static str, ddof: f64, kind: Spread) -> Result<Row<f64, S::Dim>>
    where
        S::Item: AsPrimitive<f64>,
    {
        let check = |shape: &S::Dim| check_ddof(ddof, rows_of(shape));
        let (shape, parts) =
            self.moments_axis0(operation, Moments::SQUARES_BYTES, Moments::squares, check)?;
        let values = spreads(&parts, elements_of_row(&shape), rows_of(&shape), ddof, kind);
        Ok(in_row_shape(&shape, values))
    }

    fn extremes_axis0<const SKIP_NAN: bool>(
        self,
        operation: &'static str,
    ) -> Result<Option<TwoRows<S::Item, S::Dim>>>
    where
        S::Item: PartialOrd,
    {
        let (shape, parts) = self.collect_parts(
            operation,
            need_rows,
            |shape| elements_of_row(shape).saturating_mul(2 * size_of::<S::Item>()),
            |shape| Extremes::<S::Item, SKIP_NAN>::new(elements_of_row(shape)),
            |part, block| part.add(&in_c_order(block)),
            Holes::AddOnce,
        )?;
        let joined = Extremes::joined(parts, operation)?.filter(|_| rows_of(&shape) > 0);
        Ok(joined.map(|(smallest, largest)| (in_row_shape(&shape, smallest), in_row_shape(&shape, largest))))
    }
}

/// Returns an error for an array of zero dimensions, which has no axis to reduce.
fn need_rows<D: Dimension>(shape: &D) -> Result<()> {
    match shape.ndim() {
        0 => Err(Error::new(
            ErrorKind::OutOfBounds,
            "stream",
            "an array that has axis 0",
            "one of 0 dimensions",
        )),
        _ => Ok(()),
    }
}

/// Returns the values of all columns as an array in the shape of a row.
fn in_row_shape<T, D: RemoveAxis>(shape: &D, values: Vec<T>) -> Array<T, D::Smaller> {
    Array::from_shape_vec(shape.remove_axis(Axis(0)), values).expect("one value for each column")
}
