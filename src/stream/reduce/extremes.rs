//! [`Extremes`]: the smallest and the largest elements.

use crate::error::Result;
use crate::stream::steps::call;
use bytemuck::Pod;

/// The maximum size in bytes of elements that are copied to be compared. Larger elements could fill the stack.
const MAX_COPIED_BYTES: usize = 16;

/// The number of elements that are compared in parallel.
const LANES: usize = 16;

/// The smallest and the largest element of each column of some rows.
///
/// NaN is any element that is not equal to itself. With `SKIP_NAN`, any other element replaces NaN. Without `SKIP_NAN`,
/// NaN replaces any other element, and no other element replaces NaN.
#[derive(Debug)]
pub(super) struct Extremes<T, const SKIP_NAN: bool> {
    columns: usize,
    /// The smallest element of each column. Empty before the first row.
    smallest: Vec<T>,
    largest: Vec<T>,
}

#[allow(clippy::eq_op, reason = "NaN is not equal to itself")]
fn is_nan<T: PartialEq>(item: &T) -> bool {
    item != item
}

/// Copies an element. A large element is copied byte for byte, because an assignment first copies it to the stack
/// unless the compiler optimises.
#[inline]
fn set<T: Pod>(to: &mut T, from: &T) {
    match size_of::<T>() {
        ..=MAX_COPIED_BYTES => set_small(to, from),
        _ => bytemuck::bytes_of_mut(to).copy_from_slice(bytemuck::bytes_of(from)),
    }
}

#[inline]
fn set_small<T: Copy>(to: &mut T, from: &T) {
    *to = *from;
}

impl<T: Pod + PartialOrd, const SKIP_NAN: bool> Extremes<T, SKIP_NAN> {
    pub(super) fn new(columns: usize) -> Self {
        Self { columns, smallest: Vec::new(), largest: Vec::new() }
    }

    fn replaces(item: &T, extreme: &T, is_beyond: bool) -> bool {
        is_beyond | is_nan(if SKIP_NAN { extreme } else { item })
    }

    fn take(smallest: &mut T, largest: &mut T, low: &T, high: &T) {
        if Self::replaces(low, smallest, low < smallest) {
            set(smallest, low);
        }
        if Self::replaces(high, largest, high > largest) {
            set(largest, high);
        }
    }

    /// Adds rows in C order.
    pub(super) fn add(&mut self, items: &[T]) {
        if self.columns == 1 && size_of::<T>() <= MAX_COPIED_BYTES {
            return self.add_column(items);
        }
        if self.columns > 0 {
            items.chunks_exact(self.columns).for_each(|row| self.add_row(row, row));
        }
    }

    fn add_row(&mut self, low: &[T], high: &[T]) {
        if self.smallest.is_empty() {
            self.smallest.extend_from_slice(low);
            self.largest.extend_from_slice(high);
            return;
        }
        let extremes = self.smallest.iter_mut().zip(&mut self.largest);
        for ((smallest, largest), (low, high)) in extremes.zip(low.iter().zip(high)) {
            Self::take(smallest, largest, low, high);
        }
    }

    /// Adds elements of the only column, several of them in parallel.
    fn add_column(&mut self, items: &[T]) {
        let Some(&first) = items.first() else { return };
        let (mut smallest, mut largest) = ([first; LANES], [first; LANES]);
        let mut groups = items.chunks_exact(LANES);
        for group in &mut groups {
            for lane in 0..LANES {
                Self::take(&mut smallest[lane], &mut largest[lane], &group[lane], &group[lane]);
            }
        }
        for (low, high) in smallest.iter().zip(&largest) {
            self.add_row(std::slice::from_ref(low), std::slice::from_ref(high));
        }
        for item in groups.remainder() {
            self.add_row(std::slice::from_ref(item), std::slice::from_ref(item));
        }
    }

    fn join(mut self, other: Self) -> Self {
        if !other.smallest.is_empty() {
            self.add_row(&other.smallest, &other.largest);
        }
        self
    }

    /// Returns the smallest and the largest elements of all parts. Both vectors are empty if there was no element.
    /// Returns `None` if there are no parts.
    ///
    /// Fails if a comparison of elements panics: the element type can be the caller's.
    pub(super) fn joined(parts: Vec<Self>, operation: &'static str) -> Result<Option<(Vec<T>, Vec<T>)>> {
        let joined =
            call(|| parts.into_iter().reduce(Self::join)).map_err(|error| error.during(operation))?;
        Ok(joined.map(|Self { smallest, largest, .. }| (smallest, largest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<const SKIP_NAN: bool>(items: &[f32]) -> Option<(f32, f32)> {
        let (head, tail) = items.split_at(items.len() / 3);
        let parts = [head, tail].map(|items| {
            let mut extremes = Extremes::<f32, SKIP_NAN>::new(1);
            extremes.add(items);
            extremes
        });
        let (smallest, largest) = Extremes::joined(parts.into(), "min_max").unwrap()?;
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
            assert_eq!(of::<true>(items), Some(expected));
            let (smallest, largest) = of::<false>(items).unwrap();
            assert!(smallest.is_nan() && largest.is_nan());
        }
        assert_eq!(of::<false>(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
        assert_eq!((of::<false>(&[]), of::<true>(&[])), (None, None));
        assert!(of::<true>(&[nan, nan]).is_some_and(|(low, high)| low.is_nan() && high.is_nan()));
    }
}
