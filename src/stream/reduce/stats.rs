//! [`Stats`]: several statistics of a stream, computed in one pass.

use super::extremes::Extremes;
use super::moments::Moments;
use super::total::{Spread, Total};
use super::{Holes, Part, Per, Reduced, Row, check_ddof, in_row_shape, only_column};
use crate::error::Result;
use crate::stream::Stream;
use crate::stream::stage::{Element, Stage};
use ndarray::RemoveAxis;
use num_traits::AsPrimitive;

/// Statistics of all elements, from [`Stream::stats`], or of each column, from [`Stream::stats_axis0`].
///
/// Each field has the value that the function of the same name returns. For the statistics of each column, the fields
/// are arrays with the shape of a row.
///
/// ```
/// use ndarray::array;
/// use ndarray_mmap::stream::Stream;
///
/// let values = array![[1_u8, 20], [3, 30]];
/// let all = Stream::from(&values).stats(0.0)?;
/// assert_eq!((all.count, all.sum, all.min_max), (4, 54.0, Some((1, 30))));
/// let columns = Stream::from(&values).stats_axis0(0.0)?;
/// assert_eq!((columns.mean, columns.std), (array![2.0, 25.0], array![1.0, 5.0]));
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Stats<N, F, T> {
    /// The number of elements. If the stream ignores NaN ([`skip_nan`](Stream::skip_nan)), NaN does not count.
    pub count: N,
    /// The sum: see [`Stream::sum`].
    pub sum: F,
    /// The mean: see [`Stream::mean`].
    pub mean: F,
    /// The variance: see [`Stream::var`].
    pub var: F,
    /// The standard deviation: see [`Stream::std`].
    pub std: F,
    /// The smallest and the largest element, or `None` if there are no elements: see [`Stream::min_max`].
    pub min_max: Option<(T, T)>,
}

impl<T: Element + AsPrimitive<f64> + PartialOrd> Part<T> for (Moments, Extremes<T>) {
    fn holes(skips_nan: bool) -> Holes {
        <Moments as Part<T>>::holes(skips_nan)
    }
}

impl<S: Stage> Stream<'_, S>
where
    S::Item: AsPrimitive<f64> + PartialOrd,
{
    /// Returns the number, sum, mean, variance, standard deviation and extremes of all elements, computed in one pass.
    /// `ddof` is that of [`var`](Self::var).
    ///
    /// ```
    /// use ndarray::Ix2;
    /// use ndarray_mmap::{MmapArray, stream::Stream};
    ///
    /// let mut table = MmapArray::<f32, Ix2>::scratch((1000, 2))?;
    /// table.column_mut(1).fill(1.0);
    /// let stats = Stream::from(&table).stats(0.0)?;
    /// assert_eq!((stats.count, stats.mean, stats.std), (2000, 0.5, 0.5));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`var`](Self::var).
    pub fn stats(self, ddof: f64) -> Result<Stats<usize, f64, S::Item>> {
        let (counts, moments, extremes) = self.all_moments("stats", Per::Array, ddof)?;
        let [sum, mean, var, std] = of_moments(&moments, ddof).map(only_column);
        let min_max = extremes
            .extremes("stats")?
            .map(|(smallest, largest)| (only_column(smallest), only_column(largest)));
        Ok(Stats { count: only_column(counts), sum, mean, var, std, min_max })
    }

    /// Returns the number, sum, mean, variance, standard deviation and extremes of each column, computed in one pass.
    /// `ddof` is that of [`var_axis0`](Self::var_axis0).
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// let values = array![[1.0, f64::NAN], [3.0, 5.0]];
    /// let stats = Stream::from(&values).skip_nan().stats_axis0(0.0)?;
    /// assert_eq!(stats.count, array![2, 1]);
    /// assert_eq!(stats.mean, array![2.0, 5.0]);
    /// assert_eq!(stats.min_max, Some((array![1.0, 5.0], array![3.0, 5.0])));
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`var_axis0`](Self::var_axis0).
    #[allow(clippy::type_complexity, reason = "the types of the fields, in the order of the fields")]
    pub fn stats_axis0(
        self,
        ddof: f64,
    ) -> Result<Stats<Row<usize, S::Dim>, Row<f64, S::Dim>, Row<S::Item, S::Dim>>>
    where
        S::Dim: RemoveAxis,
    {
        let (counts, moments, extremes) = self.all_moments("stats_axis0", Per::Column, ddof)?;
        let shape = moments.shape.clone();
        let [sum, mean, var, std] = of_moments(&moments, ddof).map(|values| in_row_shape(&shape, values));
        let min_max = extremes
            .extremes("stats_axis0")?
            .map(|(smallest, largest)| (in_row_shape(&shape, smallest), in_row_shape(&shape, largest)));
        Ok(Stats { count: in_row_shape(&shape, counts), sum, mean, var, std, min_max })
    }

    /// Returns the number of elements of each column, their sums and the sums of their squares, and their extremes.
    #[allow(clippy::type_complexity, reason = "the parts of two reductions")]
    fn all_moments(
        self,
        operation: &'static str,
        per: Per,
        ddof: f64,
    ) -> Result<(Vec<usize>, Reduced<S::Dim, Moments>, Reduced<S::Dim, Extremes<S::Item>>)> {
        let Reduced { shape, columns, count, parts } = self.reduce(
            operation,
            per,
            Moments::SQUARES_BYTES + 2 * size_of::<S::Item>(),
            |count| check_ddof(ddof, count),
            |columns, skips_nan| (Moments::squares(columns, skips_nan), Extremes::new(columns, skips_nan)),
            |(moments, extremes), items| {
                moments.add(items);
                extremes.add(items);
            },
        )?;
        let (moments, extremes) = parts.into_iter().unzip();
        let moments = Reduced { shape: shape.clone(), columns, count, parts: moments };
        let counts = (0..columns).map(|column| moments.count(column)).collect();
        Ok((counts, moments, Reduced { shape, columns, count, parts: extremes }))
    }
}

/// Returns the sum, mean, variance and standard deviation of each column.
fn of_moments<D>(moments: &Reduced<D, Moments>, ddof: f64) -> [Vec<f64>; 4] {
    [
        moments.per_column(|total, _| total.sum()),
        moments.per_column(Total::mean),
        moments.spreads(ddof, Spread::Variance),
        moments.spreads(ddof, Spread::Deviation),
    ]
}
