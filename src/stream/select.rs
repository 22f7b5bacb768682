//! [`Kept`]: selected indices of the axes of a block.

use super::picked::Picked;
use super::stage::{BlockBuffer, Element, assign, row_bytes_of, row_slice, with_rows};
use crate::error::Result;
use ndarray::{ArrayView, ArrayViewMut, Axis, Dimension};

/// The selected indices of axes other than 0. The axes are selected one after the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept(Vec<(Axis, Vec<usize>)>);

impl Kept {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether indices of this axis were selected.
    pub(super) fn has(&self, axis: Axis) -> bool {
        self.0.iter().any(|(kept, _)| *kept == axis)
    }

    /// Keeps the selected indices of an axis.
    pub(super) fn pick(&mut self, axis: Axis, picked: &Picked) {
        match self.0.iter_mut().find(|(kept, _)| *kept == axis) {
            Some((_, kept)) => *kept = picked.indices().map(|place| kept[place]).collect(),
            None => self.0.push((axis, picked.indices().collect())),
        }
    }

    /// Returns the shape of a block after the selections.
    pub(super) fn shape_of<D: Dimension>(&self, mut block: D) -> D {
        for (axis, kept) in &self.0 {
            block[axis.index()] = kept.len();
        }
        block
    }

    /// Returns the size in bytes of a row in each buffer that [`select_into`](Self::select_into) needs, and the number
    /// of these buffers. The size is that of the largest row that a selection produces.
    pub(super) fn buffers<T, D: Dimension>(&self, block: &D) -> (usize, usize) {
        let mut shape = with_rows(block, 1);
        let widest = self.0.iter().fold(0, |widest, (axis, kept)| {
            shape[axis.index()] = kept.len();
            widest.max(row_bytes_of::<T, D>(&shape))
        });
        (widest, self.0.len().saturating_sub(1))
    }

    /// Copies the selected elements of a block to `out`. `between` contains the buffers for the results of all
    /// selections except the last.
    pub(super) fn select_into<T: Element, D: Dimension>(
        &self,
        block: &ArrayView<'_, T, D>,
        out: ArrayViewMut<'_, T, D>,
        between: &mut Vec<BlockBuffer>,
    ) -> Result<()> {
        between.resize_with(self.0.len().saturating_sub(1), BlockBuffer::default);
        select_into(block, &self.0, out, between)
    }
}

/// Copies a block to `out`, but along each listed axis only the kept indices.
///
/// The axes are selected one after the other. `between` contains a buffer for the result of each selection except the
/// last.
fn select_into<T: Element, D: Dimension>(
    block: &ArrayView<'_, T, D>,
    kept: &[(Axis, Vec<usize>)],
    out: ArrayViewMut<'_, T, D>,
    between: &mut [BlockBuffer],
) -> Result<()> {
    match (kept, between) {
        ([], _) => assign(block, out),
        ([(axis, indices), rest @ ..], [buffer, between @ ..]) if !rest.is_empty() => {
            let mut shape = block.raw_dim();
            shape[axis.index()] = indices.len();
            select_axis(block, *axis, indices, buffer.view_mut(shape.clone())?);
            select_into(&buffer.view(shape), rest, out, between)?;
        }
        ([(axis, indices), ..], _) => select_axis(block, *axis, indices, out),
    }
    Ok(())
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
        let from = block.slice_axis(axis, row_slice(&(index..index + 1)));
        assign(&from, out.slice_axis_mut(axis, row_slice(&(place..place + 1))));
    }
}

/// Copies the selected indices from one slice to another, both in C order. Each index has `N` elements, which are so
/// few that a call of `memcpy` would take longer than the copy.
fn select_items<T: Element, const N: usize>(from: &[T], len: usize, indices: &[usize], to: &mut [T]) {
    for (from, to) in from.chunks_exact(len * N).zip(to.chunks_exact_mut(indices.len() * N)) {
        for (to, &index) in to.chunks_exact_mut(N).zip(indices) {
            to.copy_from_slice(&from[index * N..(index + 1) * N]);
        }
    }
}

/// Copies the selected indices from one slice to another, both in C order. Each index has `inner` elements. Consecutive
/// indices are copied together.
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
        fn selections_equal_those_of_ndarray(
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
            let mut between = [BlockBuffer::default()];
            select_into(&block.view(), &kept, out.view_mut(), &mut between).unwrap();
            prop_assert_eq!(&out, &expected);
            let mut out = Array::zeros(expected.raw_dim().f());
            let mut between = [BlockBuffer::default()];
            select_into(&block.view(), &kept, out.view_mut(), &mut between).unwrap();
            prop_assert_eq!(out, expected);
        }
    }
}
