//! [`Stream::quantile_axis0`]: exact quantiles in bounded memory.
//!
//! A sample of the rows gives a narrow bracket for each column, which very likely contains the wanted elements. One
//! pass over all rows then counts the elements below the bracket and collects the elements in it. If a bracket misses
//! the wanted elements, or contains too many elements for the memory, a further pass uses a better bracket. The sample
//! is random, but the result is not, because the result depends only on counts of elements.

use super::brackets::{Brackets, COUNTS_BYTES, ColumnFound, Found, Random};
use super::{Holes, Row, columns_of, in_c_order, in_row_shape};
use crate::error::{Error, ErrorKind, Result};
use crate::stream::Stream;
use crate::stream::job::Job;
use crate::stream::stage::Stage;
use crate::stream::workers::{self, Progress};
use crate::sync::{into_inner, lock};
use ndarray::RemoveAxis;
use num_traits::AsPrimitive;
use std::ops::Range;
use std::sync::Mutex;

/// The minimum number of rows in the sample, but at most one row in 16 is sampled.
const MIN_SAMPLED_ROWS: usize = 4096;
const MAX_SAMPLED_ROWS: usize = 1 << 16;

/// If a stream has fewer rows than this number, no rows are sampled.
const MIN_ROWS_TO_SAMPLE: usize = 4096;

/// The least number of elements that a thread keeps for each column.
const MIN_CAPACITY: usize = 128;

/// The minimum number of bytes of memory for each thread.
const MIN_PART_BYTES: usize = 64 << 10;

impl<S: Stage> Stream<'_, S>
where
    S::Dim: RemoveAxis,
    S::Item: AsPrimitive<f64>,
{
    /// Returns the quantile `q` of each column, exactly: 0 is the smallest element, 0.5 the median, and 1 the largest
    /// element. Between two elements, the result is interpolated in `f64`, as by numpy's default method `linear`.
    ///
    /// If a column contains NaN, its result is NaN, unless NaN is [skipped](Self::skip_nan). If there are no rows, the
    /// result is NaN.
    ///
    /// The stream reads a few thousand random rows, and then all rows, usually once. It reads all rows several times if
    /// the [budget](Self::budget) is less than about a fifth of the size of the elements. Each time, functions of the
    /// stream are called again, and the [progress](Self::progress) starts at 0 again. A stream with functions, or with
    /// rows of an array in Fortran order, does not sample, and reads all rows at least twice, unless the budget holds
    /// all elements.
    ///
    /// ```
    /// use ndarray::array;
    /// use ndarray_mmap::stream::Stream;
    ///
    /// let values = array![[3.0_f32, 10.0], [1.0, 40.0], [2.0, 20.0], [9.0, 30.0]];
    /// assert_eq!(Stream::from(&values).quantile_axis0(0.5)?, array![2.5, 25.0]);
    /// assert_eq!(Stream::from(&values).quantile_axis0(0.1)?, array![1.3, 13.0]);
    /// # Ok::<(), ndarray_mmap::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) unless `q` is between 0 and 1; otherwise as for
    /// [`sum_axis0`](Self::sum_axis0).
    pub fn quantile_axis0(self, q: f64) -> Result<Row<f64, S::Dim>> {
        self.run("quantile_axis0", None, |job, progress| {
            if !(0.0..=1.0).contains(&q) {
                let found = format!("{q}");
                return Err(Error::new(ErrorKind::InvalidInput, "stream", "a quantile from 0 to 1", found)
                    .with_remedy("0.5 is the median"));
            }
            let shape = job.stage.shape();
            let columns = columns_of(&shape)?;
            let (threads, part_bytes) = job.threads_and_part_bytes(columns);
            let group = part_bytes / Brackets::column_bytes::<S::Item>(MIN_CAPACITY);
            let group = group.clamp(1, columns.max(1));
            let mut quantiles = Vec::with_capacity(columns);
            for first in (0..columns).step_by(group) {
                let group = first..(first + group).min(columns);
                quantiles.extend(job.quantiles(progress, group, columns, (threads, part_bytes), q)?);
            }
            if columns == 0 {
                progress.report(job.rows())?;
            }
            Ok(in_row_shape(&shape, quantiles))
        })
    }
}

impl<S: Stage> Job<S>
where
    S::Item: AsPrimitive<f64>,
{
    /// Returns the number of threads, and the memory for what each of them finds.
    fn threads_and_part_bytes(&self, columns: usize) -> (usize, usize) {
        let for_parts = self.budget.memory_bytes() / 4 * 3;
        let least_bytes = columns.saturating_mul(Brackets::column_bytes::<S::Item>(MIN_CAPACITY));
        let threads = if self.stage.row_bytes().scattered { 1 } else { self.threads_to_read() };
        let threads = threads.min(for_parts / least_bytes.max(1)).max(1);
        (threads, (for_parts / threads).max(MIN_PART_BYTES))
    }

    /// Returns the quantile of each column of a group.
    fn quantiles(
        &self,
        progress: &mut Progress<'_>,
        group: Range<usize>,
        columns: usize,
        (threads, part_bytes): (usize, usize),
        q: f64,
    ) -> Result<Vec<f64>> {
        let kept_bytes = (part_bytes / group.len()).saturating_sub(COUNTS_BYTES);
        let capacity = (kept_bytes / size_of::<S::Item>().max(1)).max(MIN_CAPACITY);
        let capacity = capacity.min(self.rows().max(1));
        let sample = self.sample(&group, capacity)?;
        let mut searches: Vec<_> = (0..group.len())
            .map(|column| {
                Search::new(q, sample.iter().skip(column).step_by(group.len()).map(|item| item.as_()))
            })
            .collect();
        let mut column_found = ColumnFound::default();
        while searches.iter().any(|search| search.result.is_none()) {
            let bracket_of = |column: usize| {
                let search: &Search = &searches[column];
                search.result.is_none().then_some((search.low, search.high))
            };
            let brackets = Brackets::new(group.clone(), columns, capacity, bracket_of);
            progress.restart();
            let found = self.collect_parts(
                progress,
                self.plan_beside(part_bytes.saturating_mul(threads), threads),
                Holes::Count,
                || Found::new(&brackets),
                |found, block| brackets.compare(&in_c_order(block), found),
            )?;
            for (column, search) in searches.iter_mut().enumerate().filter(|(_, one)| one.result.is_none()) {
                column_found.collect(&brackets, &found, column);
                search.narrow(&mut column_found, self.rows() as u64, self.skips_nan);
            }
        }
        Ok(searches.into_iter().filter_map(|search| search.result).collect())
    }

    /// Returns the columns `group` of random rows, one row after the other.
    fn sample(&self, group: &Range<usize>, capacity: usize) -> Result<Vec<S::Item>> {
        let rows = self.rows();
        let is_cheap = !self.stage.calls_functions() && !self.stage.row_bytes().scattered;
        let sampled = match is_cheap && rows >= MIN_ROWS_TO_SAMPLE {
            true => {
                // The elements between two quantiles of this sample should fit the memory for kept elements.
                let kept_part = rows as f64 / capacity as f64;
                let enough = (6.5 * kept_part).powi(2) as usize;
                enough.clamp(MIN_SAMPLED_ROWS, MAX_SAMPLED_ROWS).min(rows / 16).min(capacity)
            }
            false => return Ok(Vec::new()),
        };
        let sample = Mutex::new(Vec::with_capacity(sampled * group.len()));
        let mut silent = Progress::new(None, 0);
        workers::run(sampled, self.threads_to_read(), &mut silent, |state: &mut S::State, place| {
            let row = Random(place as u64).below(rows as u64) as usize;
            self.stage.load(state, row..row + 1)?;
            let row = self.stage.view(state, row..row + 1);
            lock(&sample).extend_from_slice(&in_c_order(&row)[group.clone()]);
            Ok(1)
        })?;
        Ok(into_inner(sample))
    }
}

/// The search for the quantile of one column.
#[derive(Debug)]
struct Search {
    q: f64,
    /// All wanted elements are between these two values.
    least: f64,
    most: f64,
    /// The bracket of the next pass.
    low: f64,
    high: f64,
    result: Option<f64>,
}

/// Where an element of a column lies, relative to the bracket of the column.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Below,
    /// The value of the element.
    At(f64),
    /// The element is between the ends of the bracket, but it is not known, because only a part of the elements there
    /// were kept.
    Between,
    Above,
}

impl Search {
    /// Starts the search with a bracket around the quantile of a sample.
    fn new(q: f64, sample: impl Iterator<Item = f64>) -> Self {
        let (least, most) = (f64::NEG_INFINITY, f64::INFINITY);
        let mut search = Self { q, least, most, low: least, high: most, result: None };
        let mut sample: Vec<_> = sample.filter(|value| !value.is_nan()).collect();
        if !sample.is_empty() {
            let (middle, margin) = (q * (sample.len() - 1) as f64, margin(sample.len(), q));
            if middle - margin >= 0.0 {
                let place = (middle - margin) as usize;
                search.low = *sample.select_nth_unstable_by(place, f64::total_cmp).1;
            }
            if middle + margin <= (sample.len() - 1) as f64 {
                let place = (middle + margin).ceil() as usize;
                search.high = *sample.select_nth_unstable_by(place, f64::total_cmp).1;
            }
        }
        search
    }

    /// Computes the quantile, or a smaller bracket for the next pass, from what a pass has found.
    fn narrow(&mut self, found: &mut ColumnFound, rows: u64, skips_nan: bool) {
        let count = rows - found.nans;
        if count == 0 || found.nans > 0 && !skips_nan {
            self.result = Some(f64::NAN);
            return;
        }
        let position = (count - 1) as f64 * self.q;
        let (rank, weight) = (position as u64, position.fract());
        let first = self.place_of(rank, found);
        let second = if weight > 0.0 { self.place_of(rank + 1, found) } else { first };
        match (first, second) {
            (Place::At(first), Place::At(second)) => {
                // Adding 0.0 turns a result of -0.0 into 0.0. Without this, the sign of a zero could depend on the
                // brackets, which are random.
                self.result = Some(interpolate(first, second, weight) + 0.0);
            }
            (Place::Below, _) => (self.most, self.low, self.high) = (self.low, self.least, self.low),
            (_, Place::Above) => (self.least, self.low, self.high) = (self.high, self.high, self.most),
            _ => self.sharpen(rank, found),
        }
    }

    /// Returns where the element of a rank is, counted from the smallest element of the column.
    fn place_of(&self, rank: u64, found: &mut ColumnFound) -> Place {
        let Some(rank) = rank.checked_sub(found.below) else { return Place::Below };
        let Some(rank) = rank.checked_sub(found.at_low) else { return Place::At(self.low) };
        let Some(rank) = rank.checked_sub(found.between) else {
            return match found.kept.len() as u64 == found.between {
                true => Place::At(*found.kept.select_nth_unstable_by(rank as usize, f64::total_cmp).1),
                false => Place::Between,
            };
        };
        if rank < found.at_high { Place::At(self.high) } else { Place::Above }
    }

    /// Chooses a smaller bracket inside the last bracket, from a sample of the elements of the last bracket. Very
    /// likely, the new bracket contains the element `rank` and the element after it.
    fn sharpen(&mut self, rank: u64, found: &mut ColumnFound) {
        (self.least, self.most) = (self.low, self.high);
        let mut sample: Vec<(f64, f64)> = Vec::with_capacity(found.kept.len());
        let mut kept = found.kept.iter();
        for &(count, weight) in &found.weights {
            sample.extend(kept.by_ref().take(count).map(|&value| (value, weight)));
        }
        sample.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let rank = rank.saturating_sub(found.below + found.at_low) as f64;
        let between = found.between as f64;
        let margin = margin(sample.len(), rank / between) * between / sample.len() as f64;
        let mut sum = 0.0;
        for &(value, weight) in &sample {
            if sum + weight <= rank - margin {
                self.low = value;
            }
            if sum >= rank + 1.0 + margin {
                self.high = value;
                break;
            }
            sum += weight;
        }
        if (self.low, self.high) == (self.least, self.most) {
            // The sample is too small for a margin. Even if the new bracket misses the element, the search continues in
            // a smaller range.
            self.high = sample[sample.len() / 2].0;
        }
    }
}

/// Returns by how many places the quantile `q` of a sample can differ from the quantile of all elements: five standard
/// deviations.
fn margin(sample_len: usize, q: f64) -> f64 {
    5.0 * (sample_len as f64 * q * (1.0 - q)).max(1.0).sqrt() + 2.0
}

/// Interpolates between two elements, as numpy does. If the difference of the elements is not finite, the result is
/// that of real numbers, where numpy's can be NaN.
fn interpolate(first: f64, second: f64, weight: f64) -> f64 {
    let difference = second - first;
    if weight == 0.0 || first == second {
        first
    } else if !difference.is_finite() {
        first * (1.0 - weight) + second * weight
    } else if weight < 0.5 {
        first + difference * weight
    } else {
        second - difference * (1.0 - weight)
    }
}
