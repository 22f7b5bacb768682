//! Picking indices along the axes of a block.

use super::stage::Element;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension};

/// Copies a block to `out`, along each of the listed axes only the indices that are kept of it.
pub(super) fn select_into<T: Element, D: Dimension>(
    block: ArrayView<'_, T, D>,
    kept: &[(Axis, Vec<usize>)],
    mut out: ArrayViewMut<'_, T, D>,
) {
    match kept {
        [] => out.assign(&block),
        [(axis, indices)] => select_axis(&block, *axis, indices, out),
        [(axis, indices), rest @ ..] => {
            let mut shape = block.raw_dim();
            shape[axis.index()] = indices.len();
            let mut narrowed = ndarray::Array::from_elem(shape, T::zeroed());
            select_axis(&block, *axis, indices, narrowed.view_mut());
            select_into(narrowed.view(), rest, out);
        }
    }
}

fn select_axis<T: Element, D: Dimension>(
    block: &ArrayView<'_, T, D>,
    axis: Axis,
    indices: &[usize],
    mut out: ArrayViewMut<'_, T, D>,
) {
    if out.is_empty() {
        return;
    }
    let len = block.len_of(axis);
    let inner = block.shape()[axis.index() + 1..].iter().product();
    if let (Some(from), Some(to)) = (block.as_slice(), out.as_slice_mut()) {
        return match inner {
            1 => select_items::<T, 1>(from, len, indices, to),
            2 => select_items::<T, 2>(from, len, indices, to),
            3 => select_items::<T, 3>(from, len, indices, to),
            _ => select_slices(from, len, inner, indices, to),
        };
    }
    for (place, &index) in indices.iter().enumerate() {
        let slice = |index: usize| ndarray::Slice::new(index as isize, Some(index as isize + 1), 1);
        out.slice_axis_mut(axis, slice(place)).assign(&block.slice_axis(axis, slice(index)));
    }
}

/// Both in C order, `N` elements for each index: few enough that a call to copy them would cost more than they do.
fn select_items<T: Element, const N: usize>(from: &[T], len: usize, indices: &[usize], to: &mut [T]) {
    for (from, to) in from.chunks_exact(len * N).zip(to.chunks_exact_mut(indices.len() * N)) {
        for (to, &index) in to.chunks_exact_mut(N).zip(indices) {
            to.copy_from_slice(&from[index * N..(index + 1) * N]);
        }
    }
}

/// Both in C order, `inner` elements for each index: neighbours are copied together.
fn select_slices<T: Element>(from: &[T], len: usize, inner: usize, indices: &[usize], to: &mut [T]) {
    let groups: Vec<_> = indices.chunk_by(|a, b| a + 1 == *b).map(|group| (group[0], group.len())).collect();
    for (from, to) in from.chunks_exact(len * inner).zip(to.chunks_exact_mut(indices.len() * inner)) {
        let mut place = 0;
        for &(first, count) in &groups {
            let count = count * inner;
            to[place..place + count].copy_from_slice(&from[first * inner..first * inner + count]);
            place += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, IxDyn, ShapeBuilder};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn selections_are_what_ndarray_selects(
            shape in prop::collection::vec(1_usize..5, 2..5),
            inner in 1_usize..6,
            picks in prop::collection::vec(prop::collection::vec(0_usize..100, 0..6), 1..3),
            fortran: bool,
        ) {
            let mut shape = shape;
            shape.push(inner);
            let elements = shape.iter().product::<usize>();
            let values = (0..elements as u32).collect();
            let block = Array::from_shape_vec(IxDyn(&shape).set_f(fortran), values).unwrap();
            let mut expected = block.clone();
            let mut kept = Vec::new();
            for (axis, pick) in picks.into_iter().enumerate() {
                let axis = Axis(axis + 1);
                let indices: Vec<_> = pick.into_iter().map(|index| index % block.len_of(axis)).collect();
                expected = expected.select(axis, &indices);
                kept.push((axis, indices));
            }
            let mut out = Array::zeros(expected.raw_dim());
            select_into(block.view(), &kept, out.view_mut());
            prop_assert_eq!(&out, &expected);
            let mut out = Array::zeros(expected.raw_dim().f());
            select_into(block.view(), &kept, out.view_mut());
            prop_assert_eq!(out, expected);
        }
    }
}
