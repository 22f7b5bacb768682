//! Reductions of all elements to one result.

use super::extremes::Extremes;
use super::moments::Moments;
use super::total::{Spread, Total};
use super::{Per, check_ddof, only_column};
use crate::error::{Error, ErrorKind, Result};
use crate::stream::Stream;
use crate::stream::stage::Stage;
use num_traits::{AsPrimitive, PrimInt};

/// Reductions of all elements.
///
/// Sums are exact before they are rounded, as for [`sum_axis0`](Self::sum_axis0).
impl<S: Stage> Stream<'_, S> {
    /// Returns the sum of all elements, correctly rounded to `f64`. The sum of no elements is zero.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// assert_eq!(Stream::from(&array![[1e100, 1.0], [-1e100, 2.0]]).sum()?, 3.0);
    /// assert_eq!(Stream::from(&array![200_u8, 100]).sum()?, 300.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`fold`](Self::fold).
    pub fn sum(self) -> Result<f64>
    where
        S::Item: AsPrimitive<f64>,
    {
        let reduced = self.reduce("sum", Per::Array, 0, |_| Ok(()), Moments::sums, Moments::add)?;
        Ok(only_column(reduced.per_column(|total, _| total.sum())))
    }

    /// Returns the sum of all elements of an integer type.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// let sum = Stream::from(&array![u64::MAX, u64::MAX, 1]).sum_exact()?;
    /// assert_eq!(sum, 2 * i128::from(u64::MAX) + 1);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`SizeOverflow`](ErrorKind::SizeOverflow) if the sum does not fit `i128`, which can happen only for elements of 128
    /// bits; otherwise as for [`fold`](Self::fold).
    pub fn sum_exact(self) -> Result<i128>
    where
        S::Item: PrimInt + AsPrimitive<f64>,
    {
        let reduced = self.reduce("sum_exact", Per::Array, 0, |_| Ok(()), Moments::sums, Moments::add)?;
        only_column(reduced.per_column(|total, _| total.integer())).ok_or_else(|| {
            let found = "a sum beyond that range";
            Error::new(ErrorKind::SizeOverflow, "stream", "a sum that fits in an i128", found)
                .with_remedy("`sum`, which rounds to `f64`")
        })
    }

    /// Returns the mean of all elements, correctly rounded to `f64`. The mean of no elements is NaN.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// assert_eq!(Stream::from(&array![[1, 2], [3, 4]]).mean()?, 2.5);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`fold`](Self::fold).
    pub fn mean(self) -> Result<f64>
    where
        S::Item: AsPrimitive<f64>,
    {
        let reduced = self.reduce("mean", Per::Array, 0, |_| Ok(()), Moments::sums, Moments::add)?;
        Ok(only_column(reduced.per_column(Total::mean)))
    }

    /// Returns the variance of all elements: the sum of the squared distances from the mean, divided by the number of
    /// elements minus `ddof` (0 for a population, 1 for a sample). The result differs from the exact variance by at
    /// most 1 ulp. The result is NaN if there are no elements, or if an element is infinite or NaN.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// assert_eq!(Stream::from(&array![[1.0, 2.0], [3.0, 4.0]]).var(0.0)?, 1.25);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) unless `ddof` is between 0 and the number of elements; otherwise as for
    /// [`fold`](Self::fold).
    pub fn var(self, ddof: f64) -> Result<f64>
    where
        S::Item: AsPrimitive<f64>,
    {
        self.spread("var", ddof, Spread::Variance)
    }

    /// Returns the standard deviation of all elements: the square root of [`var`](Self::var). The result differs from the
    /// exact value by at most 1 ulp, even if the variance itself would overflow.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// assert_eq!(Stream::from(&array![[1.0, 1.0], [5.0, 5.0]]).std(0.0)?, 2.0);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`var`](Self::var).
    pub fn std(self, ddof: f64) -> Result<f64>
    where
        S::Item: AsPrimitive<f64>,
    {
        self.spread("std", ddof, Spread::Deviation)
    }

    /// Returns the smallest and the largest element, or `None` if there are no elements. If an element is NaN, both
    /// results are NaN, as in numpy; see [`skip_nan`](Self::skip_nan). If elements compare equal, such as `0.0`
    /// and `-0.0`, the result may be any of them.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// assert_eq!(Stream::from(&array![[3, 1], [4, 1]]).min_max()?, Some((1, 4)));
    /// assert!(Stream::from(&array![1.0, f64::NAN]).min_max()?.unwrap().0.is_nan());
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`fold`](Self::fold).
    pub fn min_max(self) -> Result<Option<(S::Item, S::Item)>>
    where
        S::Item: PartialOrd,
    {
        let (new, add) = (Extremes::new, Extremes::add);
        let reduced = self.reduce("min_max", Per::Array, 0, |_| Ok(()), new, add)?;
        Ok(reduced.extremes("min_max")?.and_then(|(smallest, largest)| first_pair(&smallest, &largest)))
    }

    fn spread(self, operation: &'static str, ddof: f64, kind: Spread) -> Result<f64>
    where
        S::Item: AsPrimitive<f64>,
    {
        let check = |count| check_ddof(ddof, count);
        let reduced = self.reduce(operation, Per::Array, 0, check, Moments::squares, Moments::add)?;
        Ok(only_column(reduced.spreads(ddof, kind)))
    }
}

/// Returns the first element of each slice. Elements can be large, so this function copies them once, and not in the
/// function that reduces, whose part of the stack would contain the copies all the time.
#[inline(never)]
fn first_pair<T: Copy>(smallest: &[T], largest: &[T]) -> Option<(T, T)> {
    let (smallest, largest) = (smallest.first()?, largest.first()?);
    Some((*smallest, *largest))
}
