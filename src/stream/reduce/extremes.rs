//! [`Extremes`]: the smallest and the largest elements.

use super::strips::{Rows, STRIP, by_strips, lanes_of};
use super::{Holes, Part, Reduced, is_nan};
use crate::error::Result;
use crate::stream::chunked::call;
use crate::stream::stage::Element;
use bytemuck::Pod;

/// The maximum size in bytes of elements that are copied to be compared. Larger elements could fill the stack.
const MAX_COPIED_BYTES: usize = 16;

/// The smallest and the largest element of each column, for the rows that were added.
///
/// NaN is any element that is not equal to itself. If NaN is ignored, an element that is not NaN replaces NaN.
/// Otherwise NaN replaces every other element, and nothing replaces NaN.
#[derive(Debug)]
pub(super) struct Extremes<T> {
    columns: usize,
    skips_nan: bool,
    /// The smallest element of each lane. Lane `l` belongs to column `l % columns`: if rows are narrow, each column has
    /// several lanes, so that several rows are compared in parallel. Empty before the first row.
    smallest: Vec<T>,
    largest: Vec<T>,
}

/// Replaces each element of `smallest` by the element of `low` at the same place if the element of `low` is smaller.
/// Replaces each element of `largest` by the element of `high` if the element of `high` is larger.
#[inline(always)]
fn compare<T: Pod + PartialOrd, const SKIPS_NAN: bool>(
    smallest: &mut [T],
    largest: &mut [T],
    low: &[T],
    high: &[T],
) {
    let replaces =
        |item: &T, extreme: &T, is_beyond: bool| is_beyond | is_nan(if SKIPS_NAN { extreme } else { item });
    let extremes = smallest.iter_mut().zip(largest);
    for ((smallest, largest), (low, high)) in extremes.zip(low.iter().zip(high)) {
        let is_smaller = replaces(low, smallest, low < smallest);
        let is_larger = replaces(high, largest, high > largest);
        if size_of::<T>() <= MAX_COPIED_BYTES {
            // The loop has no branches, so that the compiler can vectorise it.
            *smallest = if is_smaller { *low } else { *smallest };
            *largest = if is_larger { *high } else { *largest };
        } else {
            if is_smaller {
                copy_large(smallest, low);
            }
            if is_larger {
                copy_large(largest, high);
            }
        }
    }
}

/// Compares the rows of a strip with the extremes of their lanes.
#[inline(always)]
fn compare_rows<T: Pod + PartialOrd, const SKIPS_NAN: bool>(
    smallest: &mut [T],
    largest: &mut [T],
    rows: Rows<'_, T>,
) {
    let is_done = match (smallest.first_chunk_mut(), largest.first_chunk_mut()) {
        (Some(smallest), Some(largest)) if rows.width() == STRIP => {
            compare_numbers::<T, SKIPS_NAN>(smallest, largest, rows)
        }
        _ => false,
    };
    if !is_done {
        rows.iter().for_each(|row| compare::<T, SKIPS_NAN>(smallest, largest, row, row));
    }
}

/// Compares rows, unless NaN is among the items. Returns `false`, and changes nothing, if NaN needs another comparison.
///
/// The loop has no branches, so that the compiler can vectorise it. A comparison with NaN is false. So the loop ignores
/// NaN in the rows, and never replaces an extreme that is NaN.
#[inline(always)]
fn compare_numbers<T: Pod + PartialOrd, const SKIPS_NAN: bool>(
    smallest: &mut [T; STRIP],
    largest: &mut [T; STRIP],
    rows: Rows<'_, T>,
) -> bool {
    let (mut low, mut high, mut nan) = (*smallest, *largest, [T::zeroed(); STRIP]);
    for row in rows.full() {
        for lane in 0..STRIP {
            let item = row[lane];
            low[lane] = if item < low[lane] { item } else { low[lane] };
            high[lane] = if item > high[lane] { item } else { high[lane] };
        }
        for lane in 0..STRIP {
            nan[lane] = if !SKIPS_NAN && is_nan(&row[lane]) { row[lane] } else { nan[lane] };
        }
    }
    let must_see = if SKIPS_NAN { &low } else { &nan };
    if must_see.iter().fold(false, |found, item| found | is_nan(item)) {
        return false;
    }
    (*smallest, *largest) = (low, high);
    true
}

/// Copies an element byte for byte, because an assignment first copies a large element to the stack unless the compiler
/// optimises.
fn copy_large<T: Pod>(to: &mut T, from: &T) {
    bytemuck::bytes_of_mut(to).copy_from_slice(bytemuck::bytes_of(from));
}

impl<T: Element + PartialOrd> Part<T> for Extremes<T> {
    fn holes(_skips_nan: bool) -> Holes {
        Holes::AddOnce
    }
}

impl<T: Pod + PartialOrd> Extremes<T> {
    pub(super) fn new(columns: usize, skips_nan: bool) -> Self {
        Self { columns, skips_nan, smallest: Vec::new(), largest: Vec::new() }
    }

    /// Adds rows in C order.
    pub(super) fn add(&mut self, items: &[T]) {
        if self.columns == 0 || items.is_empty() {
            return;
        }
        if self.smallest.is_empty() {
            let is_copied = size_of::<T>() <= MAX_COPIED_BYTES;
            let rows = if is_copied { lanes_of(self.columns) / self.columns } else { 1 };
            (0..rows).for_each(|_| self.smallest.extend_from_slice(&items[..self.columns]));
            self.largest.clone_from(&self.smallest);
        }
        let lanes = self.smallest.len();
        let Self { smallest, largest, .. } = self;
        match (size_of::<T>() <= MAX_COPIED_BYTES, self.skips_nan) {
            (false, _) => items.chunks(lanes).for_each(|rows| self.join(rows, rows)),
            (_, true) => by_strips(
                lanes,
                items,
                #[inline(always)]
                |first, rows| {
                    compare_rows::<T, true>(&mut smallest[first..], &mut largest[first..], rows);
                },
            ),
            (_, false) => by_strips(
                lanes,
                items,
                #[inline(always)]
                |first, rows| {
                    compare_rows::<T, false>(&mut smallest[first..], &mut largest[first..], rows);
                },
            ),
        }
    }

    /// Adds the extremes of other rows, which have the same lanes.
    fn join(&mut self, low: &[T], high: &[T]) {
        match self.skips_nan {
            true => compare::<T, true>(&mut self.smallest, &mut self.largest, low, high),
            false => compare::<T, false>(&mut self.smallest, &mut self.largest, low, high),
        }
    }

    /// Joins the lanes of each column.
    fn finish(mut self) -> (Vec<T>, Vec<T>) {
        if self.columns > 0 && self.smallest.len() > self.columns {
            let (low, high) = (self.smallest.split_off(self.columns), self.largest.split_off(self.columns));
            for (low, high) in low.chunks(self.columns).zip(high.chunks(self.columns)) {
                self.join(low, high);
            }
        }
        (self.smallest, self.largest)
    }
}

impl<D, T: Pod + PartialOrd> Reduced<D, Extremes<T>> {
    /// Returns the smallest and the largest element of each column, or `None` if columns have no elements. Returns an
    /// error if a comparison of elements panics, because the caller can define the element type and its comparison.
    pub(super) fn extremes(self, operation: &'static str) -> Result<Option<(Vec<T>, Vec<T>)>> {
        let Self { parts, count, .. } = self;
        let join = |mut all: Extremes<T>, part: Extremes<T>| {
            all.join(&part.smallest, &part.largest);
            all
        };
        let joined = call(|| parts.into_iter().reduce(join).filter(|_| count > 0).map(Extremes::finish));
        joined.map_err(|error| error.during(operation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(items: &[f32], skips_nan: bool) -> Option<(f32, f32)> {
        let (head, tail) = items.split_at(items.len().div_ceil(3));
        let halves = [head, tail];
        let parts = halves.iter().filter(|items| !items.is_empty()).map(|items| {
            let mut extremes = Extremes::new(1, skips_nan);
            extremes.add(items);
            extremes
        });
        let reduced = Reduced { shape: (), columns: 1, count: items.len(), parts: parts.collect() };
        let (smallest, largest) = reduced.extremes("min_max").unwrap()?;
        Some((*smallest.first()?, *largest.first()?))
    }

    #[test]
    fn nan_is_kept_or_ignored() {
        let nan = f32::NAN;
        let many: Vec<f32> = (0..1000).map(|index| if index % 3 == 0 { nan } else { index as f32 }).collect();
        for (items, expected) in [
            (&[nan, 2.0, -1.0, nan, 7.0][..], (-1.0, 7.0)),
            (&[2.0, -1.0, 7.0, nan], (-1.0, 7.0)),
            (&many, (1.0, 998.0)),
        ] {
            assert_eq!(of(items, true), Some(expected));
            let (smallest, largest) = of(items, false).unwrap();
            assert!(smallest.is_nan() && largest.is_nan());
        }
        assert_eq!(of(&[3.0, 1.0, 2.0], false), Some((1.0, 3.0)));
        assert_eq!((of(&[], false), of(&[], true)), (None, None));
        assert!(of(&[nan, nan], true).is_some_and(|(low, high)| low.is_nan() && high.is_nan()));
    }
}
