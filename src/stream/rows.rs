//! Ranges of rows with steps, and lists of indices.

use crate::error::{Error, ErrorKind, Result};
use ndarray::{Dimension, Slice, SliceInfo, SliceInfoElem};
use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

/// A range of rows for [`Stream::rows`](super::Stream::rows): any range of `usize`, an [`ndarray::Slice`], or `s![..]` with
/// one range. Slices may have steps.
///
/// As in ndarray, negative ends count from the last row backwards, and a negative step reverses the order. A range that
/// ends after the last row is shortened to end with the last row.
///
/// ```
/// use ndarray::{Ix1, Slice, s};
/// use ndarray_mmap::{MmapArray, stream::{RowRange, Stream}};
///
/// let array = MmapArray::<f32, Ix1>::scratch(100)?;
/// let count = |rows: Stream<'_, _>| rows.fold(0, |count, chunk| count + chunk.len());
/// assert_eq!(count(Stream::from(&array).rows(90..))?, 10);
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

fn saturated(index: usize) -> isize {
    isize::try_from(index).unwrap_or(isize::MAX)
}

macro_rules! ranges {
    ($($range:ty: |$self:ident| $start:expr, $end:expr;)*) => {$(
        impl sealed::Sealed for $range {}
        impl RowRange for $range {
            fn to_slice(&self) -> Result<Slice> {
                let $self = self;
                Ok(Slice { start: saturated($start), end: $end, step: 1 })
            }
        }
    )*};
}

ranges! {
    Range<usize>: |range| range.start, Some(saturated(range.end));
    RangeInclusive<usize>: |range| *range.start(), Some(saturated(range.end().saturating_add(1)));
    RangeFrom<usize>: |range| range.start, None;
    RangeTo<usize>: |range| 0, Some(saturated(range.end));
    RangeToInclusive<usize>: |range| 0, Some(saturated(range.end.saturating_add(1)));
    RangeFull: |_range| 0, None;
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

/// Limits a slice to an axis of this length, because ndarray panics if a slice extends beyond the axis. A slice whose
/// ends are in the wrong order becomes empty.
pub(super) fn clamped(slice: Slice, len: usize) -> Result<Slice> {
    if slice.step == 0 {
        return Err(Error::new(ErrorKind::InvalidInput, "stream", "a step of rows", "a step of zero")
            .with_remedy("a step of 1 takes every row"));
    }
    let len = saturated(len);
    let inside = |index: isize| if index < 0 { index.saturating_add(len).max(0) } else { index.min(len) };
    let (start, end) = (inside(slice.start), slice.end.map_or(len, inside));
    Ok(Slice { start, end: Some(end.max(start)), step: slice.step })
}

/// Returns the slice that selects the same indices as a list, if the list has a constant positive step.
pub(super) fn as_slice(indices: &[usize]) -> Option<Slice> {
    let (&first, &last) = (indices.first()?, indices.last()?);
    let step = if indices.len() > 1 { indices[1].checked_sub(first)? } else { 1 };
    let regular = step > 0 && indices.windows(2).all(|pair| pair[0].checked_add(step) == Some(pair[1]));
    regular.then(|| Slice { start: saturated(first), end: Some(saturated(last + 1)), step: saturated(step) })
}

/// Returns an error if an index is beyond the end of an axis.
pub(super) fn check_indices(indices: &[usize], axis: usize, len: usize) -> Result<()> {
    match indices.iter().find(|&&index| index >= len) {
        None => Ok(()),
        Some(index) => Err(Error::new(
            ErrorKind::OutOfBounds,
            "stream",
            format!("indices below {len}, the length of axis {axis}"),
            format!("index {index}"),
        )
        .with_remedy("indices start at 0, and count what the selections before have left")),
    }
}

#[cfg(test)]
#[allow(clippy::reversed_empty_ranges)]
mod tests {
    use super::*;
    use ndarray::{Array1, s};

    fn rows(range: impl RowRange, len: usize) -> Vec<usize> {
        let array = Array1::from_iter(0..len);
        array.slice_axis(ndarray::Axis(0), clamped(range.to_slice().unwrap(), len).unwrap()).to_vec()
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
        assert!(rows(12.., 10).is_empty() && rows(5..2, 10).is_empty() && rows(.., 0).is_empty());
        assert_eq!(rows(s![1..;3], 10), [1, 4, 7]);
        assert_eq!(rows(s![..;-4], 10), [9, 5, 1]);
        assert_eq!(rows(s![-3..-1], 10), [7, 8]);
        assert_eq!(rows(Slice::from(1..99).step_by(4), 10), [1, 5, 9]);
        assert!(s![3].to_slice().is_err());
        assert!(clamped(Slice { start: 0, end: None, step: 0 }, 3).is_err());
    }

    #[test]
    fn lists_with_a_constant_step_are_slices() {
        let slice = |indices: &[usize]| as_slice(indices).map(|slice| (slice.start, slice.end, slice.step));
        assert_eq!(slice(&[5]), Some((5, Some(6), 1)));
        assert_eq!(slice(&[2, 3, 4]), Some((2, Some(5), 1)));
        assert_eq!(slice(&[1, 4, 7]), Some((1, Some(8), 3)));
        for irregular in [&[][..], &[3, 3], &[3, 2], &[1, 2, 4]] {
            assert_eq!(slice(irregular), None);
        }
    }

    #[test]
    fn the_error_names_an_index_after_the_end() {
        assert!(check_indices(&[0, 9], 1, 10).is_ok());
        let error = check_indices(&[0, 10], 1, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfBounds);
        assert_eq!(
            error.to_string(),
            "stream: expected indices below 10, the length of axis 1, found index 10; indices start at 0, and count what \
             the selections before have left"
        );
    }
}
