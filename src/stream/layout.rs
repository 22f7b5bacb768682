//! [`BlockLayout`]: the layout of a block of rows in a buffer. The block's elements are one or more runs of bytes in a
//! file, and the buffer contains these runs one after the other.

use crate::geometry::ByteRuns;
use ndarray::{ArrayView, Dimension, ShapeBuilder};
use std::cmp::Reverse;

/// Returns whether axis 0 is the outermost axis in memory. Then blocks of rows are ranges of the file that do not
/// overlap.
pub(super) fn rows_are_outermost(shape: &[usize], strides: &[isize]) -> bool {
    let step = |axis: usize| if shape[axis] > 1 { strides[axis].unsigned_abs() } else { 0 };
    let repeats_one_row = strides.first() == Some(&0);
    shape.first().is_none_or(|&rows| {
        rows <= 1 || repeats_one_row || (1..shape.len()).all(|axis| step(axis) <= step(0))
    })
}

/// The layout of a block of a view: its runs of bytes in the file, and the position of each element in a buffer that
/// contains these runs one after the other.
///
/// The axes have the same order in the buffer as in the file, so the runs can be read in ascending order. If a run
/// contains gaps between elements, the buffer contains these gaps as well. An axis that repeats one index has stride
/// zero in the buffer and in the view, so the bytes of that index are read once.
#[derive(Clone, Debug)]
pub(super) struct BlockLayout {
    /// The block's runs of contiguous bytes. Their offsets are relative to the lowest byte of the block.
    runs: ByteRuns,
    /// The distance in the file from the lowest byte of the block to its first element.
    above_bytes: usize,
    /// The stride of each axis of the block, in elements of the buffer. A stride is negative if the view's stride is
    /// negative.
    strides: Vec<isize>,
    item_bytes: usize,
    buffer_bytes: usize,
}

impl BlockLayout {
    /// Returns the layout of a block of this shape. `strides` are in elements. Gaps of at most `max_gap_bytes` are read
    /// together with the elements.
    pub(super) fn new(shape: &[usize], strides: &[isize], item_bytes: usize, max_gap_bytes: usize) -> Self {
        let (runs, above_bytes) = ByteRuns::of_view(shape, strides, item_bytes);
        let runs = runs.joined(max_gap_bytes);
        let buffer_bytes = runs.count_runs().saturating_mul(runs.run_bytes());
        // The first entries of `axes` correspond to the entries of `runs.levels()`, in the same order. The elements
        // along all other axes lie within one run.
        let mut axes: Vec<usize> =
            (0..shape.len()).filter(|&axis| shape[axis] > 1 && strides[axis] != 0).collect();
        axes.sort_by_key(|&axis| Reverse(strides[axis].unsigned_abs()));
        let mut in_buffer = vec![0; shape.len()];
        let mut pitch_bytes = buffer_bytes;
        for (index, &axis) in axes.iter().enumerate().filter(|_| buffer_bytes > 0) {
            let step = match runs.levels().get(index) {
                Some(level) => {
                    pitch_bytes /= level.count;
                    pitch_bytes / item_bytes
                }
                None => strides[axis].unsigned_abs(),
            };
            in_buffer[axis] = strides[axis].signum() * step as isize; // less than the buffer, whose length fits `isize`
        }
        Self { runs, above_bytes, strides: in_buffer, item_bytes, buffer_bytes }
    }

    /// Returns the layout of a buffer that contains `count` rows. Each row is a block of this layout, and the rows are
    /// stacked along axis 0.
    pub(super) fn stacked(mut self, count: usize) -> Self {
        if let Some(stride) = self.strides.first_mut() {
            *stride = (self.buffer_bytes / self.item_bytes.max(1)) as isize;
        }
        self.buffer_bytes = self.buffer_bytes.saturating_mul(count);
        self
    }

    /// Returns the number of bytes of the buffer.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.buffer_bytes
    }

    /// Returns the block's runs of contiguous bytes in the file. Their offsets are relative to the lowest byte of the
    /// block.
    pub(super) fn runs(&self) -> &ByteRuns {
        &self.runs
    }

    /// Returns whether the block is one run of contiguous bytes in the file.
    pub(super) fn is_one_run(&self) -> bool {
        self.runs.levels().is_empty()
    }

    /// Returns the distance in the file from the lowest byte of the block to its first element.
    pub(super) fn above_bytes(&self) -> usize {
        self.above_bytes
    }

    /// Returns whether an array of this shape is in standard layout in the buffer.
    pub(super) fn is_standard(&self, shape: &[usize]) -> bool {
        let mut expected = 1;
        let axes = shape.iter().zip(&self.strides).rev();
        axes.filter(|(len, _)| **len != 1).all(|(&len, &stride)| {
            let fits = stride == expected;
            expected *= len as isize; // at most the number of elements of a block, which fits `isize`
            fits
        })
    }

    /// Returns the block as a view of `items`, the elements of a buffer that contains the block's runs.
    pub(super) fn view<'b, T, D: Dimension>(&self, shape: D, items: &'b [T]) -> ArrayView<'b, T, D> {
        let mut strides = D::zeros(shape.ndim());
        for (stride, &own) in strides.slice_mut().iter_mut().zip(&self.strides) {
            *stride = own as usize; // ndarray stores negative strides as wrapped `usize` values
        }
        ArrayView::from_shape(shape.strides(strides), items)
            .expect("a buffer of `buffer_bytes` holds every element of the layout that it was made from")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::MAX_READ_GAP_BYTES;
    use ndarray::{Array, Axis, IxDyn, Slice};
    use proptest::prelude::*;

    /// Returns a buffer that contains the runs of a view of `base`. The view's lowest byte is at offset `lowest`.
    fn filled(layout: &BlockLayout, lowest: usize, base: &[u16]) -> Vec<u16> {
        let mut buffer = Vec::new();
        for start in (0..layout.runs().count_runs()).map(|index| layout.runs().run_start(index)) {
            let first = (lowest + start) / 2;
            buffer.extend_from_slice(&base[first..first + layout.runs().run_bytes() / 2]);
        }
        buffer
    }

    proptest! {
        /// Fills a buffer with the byte runs of a random view, and asserts that the buffer contains the same elements
        /// as the view. The axes of the view are sliced, permuted and reversed.
        #[test]
        fn a_filled_buffer_equals_the_view(
            shape in prop::collection::vec(1_usize..5, 0..4),
            pad in prop_oneof![Just(0_usize), Just(20_000)],
            fortran: bool,
            inverted in prop::collection::vec(any::<bool>(), 5),
            steps in prop::collection::vec(1_isize..3, 5),
            reversed: bool,
            repeats in prop_oneof![Just(1_usize), Just(3), Just(1 << 30)],
            repeated_axis in 0_usize..5,
        ) {
            let mut full = shape.clone();
            if pad > 0 && !full.is_empty() {
                full[shape.len() - 1] += pad; // a gap that is not read
            }
            let elements: usize = full.iter().product();
            let values = (0..elements).map(|index| index as u16).collect();
            let array = Array::from_shape_vec(IxDyn(&full).set_f(fortran), values).unwrap();
            let mut view = array.view();
            for axis in 0..shape.len() {
                let slice = Slice::new(0, Some(shape[axis] as isize), steps[axis]);
                view.slice_axis_inplace(Axis(axis), slice);
                if inverted[axis] {
                    view.invert_axis(Axis(axis));
                }
            }
            if reversed {
                view = view.reversed_axes();
            }
            let axis = Axis(repeated_axis.min(shape.len()));
            let view = view.insert_axis(axis);
            let mut repeated = view.raw_dim();
            repeated[axis.index()] = repeats;
            let view = view.broadcast(repeated).unwrap();
            let layout = BlockLayout::new(view.shape(), view.strides(), 2, MAX_READ_GAP_BYTES);
            let base = array.as_slice_memory_order().unwrap();
            let lowest = view.as_ptr() as usize - layout.above_bytes() - base.as_ptr() as usize;
            let buffer = filled(&layout, lowest, base);
            prop_assert_eq!(buffer.len() * 2, layout.buffer_bytes());
            let read = layout.view(view.raw_dim(), &buffer);
            prop_assert_eq!(read.is_standard_layout(), layout.is_standard(view.shape()));
            let first = Slice::from(..1);
            prop_assert_eq!(read.slice_axis(axis, first), view.slice_axis(axis, first));
            if repeats < 100 {
                prop_assert_eq!(read, view);
            }
        }
    }

    #[test]
    fn small_gaps_are_read_and_large_gaps_are_skipped() {
        let row = BlockLayout::new(&[10, 3], &[100, 1], 4, MAX_READ_GAP_BYTES);
        assert!(row.is_one_run());
        assert_eq!(row.buffer_bytes(), 9 * 400 + 12);
        let apart = BlockLayout::new(&[10, 3], &[10_000, 1], 4, MAX_READ_GAP_BYTES);
        assert_eq!((apart.runs().run_bytes(), apart.buffer_bytes()), (12, 120));
        assert_eq!(
            apart.runs().clone().map(|run| run.start).collect::<Vec<_>>(),
            (0..10).map(|row| row * 40_000).collect::<Vec<_>>()
        );
        assert_eq!(BlockLayout::new(&[10, 3], &[100, 1], 4, 0).buffer_bytes(), 120);
        assert_eq!(BlockLayout::new(&[0, 3], &[3, 1], 4, MAX_READ_GAP_BYTES).runs().count_runs(), 0);
    }
}
