//! [`Indices`]: lists of indices and boolean masks.

use super::picked::Picked;
use crate::error::{Error, ErrorKind, Result};
use ndarray::{ArrayBase, Data, Ix1};

/// The indices that [`Stream::select`](super::Stream::select) and [`Stream::select_rows`](super::Stream::select_rows)
/// keep: a list of integers, or a boolean mask. The list can be a slice, an array `[T; N]`, a `Vec` or an
/// [`ndarray::Array1`].
///
/// - The integers have any type. As in numpy, `-1` is the last index, `-2` the one before it, and so on. Indices can be
///   repeated, and can have any order.
/// - A mask has one `bool` for each index of the axis, and keeps the indices at `true`.
///
/// ```
/// use ndarray::{Array1, Axis};
/// use ndarray_mmap::{Result, stream::{Indices, Stream}};
///
/// let values = Array1::from_iter(0..5);
/// let kept = |indices: &dyn Fn(Stream<'static, _>) -> Stream<'static, _>| -> Result<Vec<i32>> {
///     indices(Stream::from(&values)).fold(Vec::new(), |mut all, chunk| {
///         all.extend(chunk);
///         all
///     })
/// };
/// assert_eq!(kept(&|stream| stream.select_rows(&[3, 0, -1]))?, [3, 0, 4]);
/// assert_eq!(kept(&|stream| stream.select_rows(&values.mapv(|value| value % 2 == 0)))?, [0, 2, 4]);
/// assert_eq!(kept(&|stream| stream.select_rows(&vec![1_usize, 1]))?, [1, 1]);
/// # Ok::<(), ndarray_mmap::Error>(())
/// ```
pub trait Indices: sealed::Indices {
    #[doc(hidden)]
    fn pick(&self, axis: usize, len: usize) -> Result<Picked>;
}

mod sealed {
    use crate::error::Result;

    pub trait Indices {}

    /// An element of [`Indices`](super::Indices): an integer or a `bool`.
    pub trait Index: Copy {
        /// Returns the selected indices of an axis of length `len`.
        fn resolve(
            items: &mut dyn ExactSizeIterator<Item = Self>,
            axis: usize,
            len: usize,
        ) -> Result<Vec<usize>>;
    }
}

use sealed::Index;

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl Index for $integer {
            fn resolve(
                items: &mut dyn ExactSizeIterator<Item = Self>,
                axis: usize,
                len: usize,
            ) -> Result<Vec<usize>> {
                items.map(|index| existing(index as i128, axis, len)).collect()
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

impl Index for bool {
    fn resolve(
        items: &mut dyn ExactSizeIterator<Item = Self>,
        axis: usize,
        len: usize,
    ) -> Result<Vec<usize>> {
        if items.len() != len {
            let expected = format!("a mask of {len} values, the length of axis {axis}");
            return Err(Error::new(
                ErrorKind::ShapeMismatch,
                "stream",
                expected,
                format!("one of {} values", items.len()),
            )
            .with_remedy("a mask selects from what the selections before have left"));
        }
        Ok(items.enumerate().filter_map(|(index, kept)| kept.then_some(index)).collect())
    }
}

/// Returns the index counted from the start of the axis. A negative `index` counts from the end of the axis.
fn existing(index: i128, axis: usize, len: usize) -> Result<usize> {
    let from_start = if index < 0 { index + len as i128 } else { index };
    if (0..len as i128).contains(&from_start) {
        return Ok(from_start as usize);
    }
    let expected = match index {
        0.. => format!("indices below {len}, the length of axis {axis}"),
        _ => format!("indices from -{len} on, because {len} is the length of axis {axis}"),
    };
    Err(Error::new(ErrorKind::OutOfBounds, "stream", expected, format!("index {index}"))
        .with_remedy("indices start at 0, and count what the selections before have left"))
}

macro_rules! lists {
    ($(($($generics:tt)*) $list:ty;)*) => {$(
        impl<$($generics)*> sealed::Indices for $list {}
        impl<$($generics)*> Indices for $list {
            fn pick(&self, axis: usize, len: usize) -> Result<Picked> {
                Ok(Picked::of_list(I::resolve(&mut self.iter().copied(), axis, len)?))
            }
        }
    )*};
}

lists! {
    (I: Index) [I];
    (I: Index, const N: usize) [I; N];
    (I: Index) Vec<I>;
    (I: Index, R: Data<Elem = I>) ArrayBase<R, Ix1>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;

    fn kept<I: Indices + ?Sized>(indices: &I) -> Result<Vec<usize>> {
        indices.pick(1, 10).map(|picked| picked.indices().collect())
    }

    #[test]
    fn integers_of_every_type_and_masks_are_indices() {
        assert_eq!(kept(&[3, 0, -1, -10]).unwrap(), [3, 0, 9, 0]);
        assert_eq!(kept(&vec![3_u8, 3]).unwrap(), [3, 3]);
        assert_eq!(kept(&arr1(&[-2_i64, 4])).unwrap(), [8, 4]);
        assert_eq!(kept(&arr1(&[7_usize]).view()).unwrap(), [7]);
        assert_eq!(kept::<[usize]>(&[]).unwrap(), [0; 0]);
        let mut mask = [false; 10];
        assert_eq!(kept(&mask).unwrap(), [0; 0]);
        (mask[2], mask[9]) = (true, true);
        assert_eq!(kept(&mask).unwrap(), [2, 9]);
    }

    #[test]
    fn the_error_names_the_index_that_does_not_exist() {
        let text = |indices: &dyn Fn() -> Result<Vec<usize>>| {
            let error = indices().unwrap_err();
            (error.kind(), error.to_string())
        };
        let advice = "indices start at 0, and count what the selections before have left";
        for (index, expected) in [
            (10_i128, "indices below 10, the length of axis 1"),
            (-11, "indices from -10 on, because 10 is the length of axis 1"),
            (i128::from(u64::MAX), "indices below 10, the length of axis 1"),
        ] {
            let expected = (
                ErrorKind::OutOfBounds,
                format!("stream: expected {expected}, found index {index}; {advice}"),
            );
            assert_eq!(
                text(&|| match u64::try_from(index) {
                    Ok(index) => kept(&[0, index]),
                    Err(_) => kept(&[0, index as i64]),
                }),
                expected
            );
        }
        let (kind, text) = text(&|| kept(&[true; 9]));
        assert_eq!(kind, ErrorKind::ShapeMismatch);
        assert!(
            text.contains("expected a mask of 10 values, the length of axis 1, found one of 9 values"),
            "{text}"
        );
    }
}
