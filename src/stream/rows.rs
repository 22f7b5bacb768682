//! [`RowRange`]: ranges of rows with steps.

use super::picked::{Picked, Steps};
use crate::error::{Error, ErrorKind, Result};
use ndarray::{Dimension, Slice, SliceInfo, SliceInfoElem};
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// A range of rows for [`Stream::rows`](super::Stream::rows): any range of integers, an [`ndarray::Slice`], or `s![..]`
/// with one range. Slices may have steps.
///
/// As in ndarray, negative ends count from the last row backwards, and a negative step reverses the order. A range that
/// ends after the last row is shortened to end with the last row.
///
/// ```
/// use ndarray::{Ix1, Slice, s};
/// use ndarray_mmap::{MmapArray, stream::{RowRange, Source, Stream}};
///
/// let array = MmapArray::<f32, Ix1>::scratch(100)?;
/// let count = |rows: Stream<'_, Source<'_, f32, Ix1>>| rows.fold(0, |count, chunk| count + chunk.len());
/// assert_eq!(count(Stream::from(&array).rows(90..))?, 10);
/// assert_eq!(count(Stream::from(&array).rows(-20..-5))?, 15);
/// assert_eq!(count(Stream::from(&array).rows(s![..;-3]))?, 34);
/// assert_eq!(count(Stream::from(&array).rows(Slice::from(-5..)))?, 5);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub trait RowRange: sealed::Sealed {
    #[doc(hidden)]
    fn to_slice(&self) -> Result<Slice>;
}

mod sealed {
    pub trait Sealed {}
}

/// An integer that can be the end of a range of rows.
pub trait Integer: Copy {
    /// Returns the nearest `isize`.
    fn saturated(self) -> isize;
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Integer for $integer {
            #[allow(unused_comparisons, reason = "half of the types are unsigned")]
            fn saturated(self) -> isize {
                isize::try_from(self).unwrap_or(if self < 0 { isize::MIN } else { isize::MAX })
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

/// Returns the end of a range that includes its last index. The index after `-1` is the end of the axis.
fn after(last: isize) -> Option<isize> {
    (last != -1).then_some(last.saturating_add(1))
}

macro_rules! ranges {
    ($($range:ty: |$self:ident| $start:expr, $end:expr;)*) => {$(
        impl<I: Integer> sealed::Sealed for $range {}
        impl<I: Integer> RowRange for $range {
            fn to_slice(&self) -> Result<Slice> {
                let $self = self;
                Ok(Slice { start: $start, end: $end, step: 1 })
            }
        }
    )*};
}

ranges! {
    Range<I>: |range| range.start.saturated(), Some(range.end.saturated());
    RangeInclusive<I>: |range| range.start().saturated(), after(range.end().saturated());
    RangeFrom<I>: |range| range.start.saturated(), None;
    RangeTo<I>: |range| 0, Some(range.end.saturated());
    RangeToInclusive<I>: |range| 0, after(range.end.saturated());
}

impl sealed::Sealed for RangeFull {}
impl RowRange for RangeFull {
    fn to_slice(&self) -> Result<Slice> {
        Ok(Slice::from(..))
    }
}

impl sealed::Sealed for Slice {}
impl RowRange for Slice {
    fn to_slice(&self) -> Result<Slice> {
        Ok(*self)
    }
}

impl<I: Dimension, O: Dimension> sealed::Sealed for SliceInfo<[SliceInfoElem; 1], I, O> {}
impl<I: Dimension, O: Dimension> RowRange for SliceInfo<[SliceInfoElem; 1], I, O> {
    fn to_slice(&self) -> Result<Slice> {
        match **self {
            [SliceInfoElem::Slice { start, end, step }] => Ok(Slice { start, end, step }),
            _ => Err(Error::new(ErrorKind::InvalidInput, "stream", "a range of rows", "something else")
                .with_remedy("`select_rows(&[row])` takes single rows")),
        }
    }
}

/// Returns the rows that a range selects, if there are `len` rows.
pub(super) fn pick(range: &impl RowRange, len: usize) -> Result<Picked> {
    Ok(Picked::Steps(Steps::of_slice(clamped(range.to_slice()?, len)?)))
}

/// Limits a slice to an axis of this length, because ndarray panics if a slice extends beyond the axis. A slice whose
/// ends are in the wrong order becomes empty.
fn clamped(slice: Slice, len: usize) -> Result<Slice> {
    if slice.step == 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "stream", "a step of rows", "a step of zero")
            .with_remedy("a step of 1 takes every row"));
    }
    let len = len.saturated();
    let inside = |index: isize| if index < 0 { index.saturating_add(len).max(0) } else { index.min(len) };
    let (start, end) = (inside(slice.start), slice.end.map_or(len, inside));
    Ok(Slice { start, end: Some(end.max(start)), step: slice.step })
}

#[cfg(test)]
#[allow(clippy::reversed_empty_ranges)]
mod tests {
    use super::*;
    use ndarray::{Array1, s};

    fn rows(range: impl RowRange, len: usize) -> Vec<usize> {
        let slice = clamped(range.to_slice().unwrap(), len).unwrap();
        let rows = Array1::from_iter(0..len).slice_axis(ndarray::Axis(0), slice).to_vec();
        assert_eq!(pick(&range, len).unwrap().indices().collect::<Vec<_>>(), rows);
        rows
    }

    #[test]
    fn ranges_select_the_same_rows_as_in_ndarray_and_are_limited_to_the_end() {
        assert_eq!(rows(2..4, 10), [2, 3]);
        assert_eq!(rows(2..=4, 10), [2, 3, 4]);
        assert_eq!(rows(7.., 10), [7, 8, 9]);
        assert_eq!(rows(..2, 10), [0, 1]);
        assert_eq!(rows(..=1, 10), [0, 1]);
        assert_eq!(rows(.., 3), [0, 1, 2]);
        assert_eq!(rows(8..usize::MAX, 10), [8, 9]);
        assert_eq!(rows(0..=usize::MAX, 2), [0, 1]);
        assert_eq!(rows(-3.., 10), [7, 8, 9]);
        assert_eq!(rows(-3_i64..-1, 10), [7, 8]);
        assert_eq!(rows(8..=-1, 10), [8, 9]);
        assert_eq!(rows(..=-9, 10), [0, 1]);
        assert_eq!(rows(-99_i8..2, 10), [0, 1]);
        assert!(rows(12.., 10).is_empty() && rows(5..2, 10).is_empty() && rows(.., 0).is_empty());
        assert_eq!(rows(s![1..;3], 10), [1, 4, 7]);
        assert_eq!(rows(s![..;-4], 10), [9, 5, 1]);
        assert_eq!(rows(s![-3..-1], 10), [7, 8]);
        assert_eq!(rows(Slice::from(1..99).step_by(4), 10), [1, 5, 9]);
        assert!(s![3].to_slice().is_err());
        assert!(clamped(Slice { start: 0, end: None, step: 0 }, 3).is_err());
    }
}
