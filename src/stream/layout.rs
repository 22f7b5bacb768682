//! Where the elements of a piece of a view lie in a file, and how they lie in a buffer that was filled with them.

use ndarray::{ArrayView, Dimension, ShapeBuilder};

/// Whether axis 0 is the outermost in memory: then blocks of rows are ranges of the file that do not interlock.
pub(super) fn rows_are_outermost(shape: &[usize], strides: &[isize]) -> bool {
    let step = |axis: usize| if shape[axis] > 1 { strides[axis].unsigned_abs() } else { 0 };
    shape.first().is_none_or(|&rows| rows <= 1 || (1..shape.len()).all(|axis| step(axis) <= step(0)))
}

/// Gaps between runs that are read along rather than skipped, in bytes: a further request costs the disk as much.
pub(super) const REACH_BYTES: usize = crate::io::MAX_READ_GAP_BYTES;

/// One level of repetition of a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    count: usize,
    step_bytes: usize,
}

/// A view's elements as equal runs of bytes in its file, and as a buffer that holds these runs one behind the other.
///
/// The innermost axes are joined to one run while the gaps between their elements are within reach; the buffer has these
/// gaps as well. The order of the axes in the buffer is that in the file, so runs are read in ascending order.
#[derive(Clone, Debug)]
pub(super) struct RunLayout {
    run_bytes: usize,
    /// Outermost first.
    levels: Vec<Level>,
    /// For each axis of the view, in elements of the buffer; negative where the view's are.
    strides: Vec<isize>,
    /// How far the view's first element lies above its lowest one, in bytes of the file.
    above_bytes: usize,
}

impl RunLayout {
    /// The layout of a view of this shape; `strides` are in elements. Gaps of up to `reach_bytes` are read along.
    pub(super) fn new(shape: &[usize], strides: &[isize], item_bytes: usize, reach_bytes: usize) -> Self {
        let empty = shape.contains(&0) || item_bytes == 0;
        let mut order: Vec<usize> =
            (0..shape.len()).filter(|&axis| shape[axis] > 1 && strides[axis] != 0).collect();
        order.sort_by_key(|&axis| strides[axis].unsigned_abs());
        let step_bytes = |axis: usize| strides[axis].unsigned_abs() * item_bytes;
        let mut layout = Self {
            run_bytes: if empty { 0 } else { item_bytes },
            levels: Vec::new(),
            strides: vec![0; shape.len()],
            above_bytes: 0,
        };
        if empty {
            return layout;
        }
        let mut joining = true;
        let mut pitch = 0;
        for axis in order {
            let (count, step) = (shape[axis], step_bytes(axis));
            layout.above_bytes += if strides[axis] < 0 { (count - 1) * step } else { 0 };
            joining &= step <= layout.run_bytes + reach_bytes;
            let in_buffer = if joining {
                layout.run_bytes = layout.run_bytes.max((count - 1) * step + layout.run_bytes);
                step
            } else {
                let in_buffer = if layout.levels.is_empty() { layout.run_bytes } else { pitch };
                layout.levels.push(Level { count, step_bytes: step });
                pitch = in_buffer * count;
                in_buffer
            };
            layout.strides[axis] = strides[axis].signum() * (in_buffer / item_bytes) as isize;
        }
        layout.levels.reverse();
        layout
    }

    /// The layout of a buffer in which `count` such views are stacked along their axis 0, which has one index here.
    pub(super) fn stacked(mut self, count: usize, item_bytes: usize) -> Self {
        let pitch = self.buffer_bytes();
        self.levels.insert(0, Level { count, step_bytes: 0 });
        if let Some(stride) = self.strides.first_mut() {
            *stride = (pitch / item_bytes.max(1)) as isize;
        }
        self
    }

    /// The bytes that the buffer holds.
    pub(super) fn buffer_bytes(&self) -> usize {
        self.levels.iter().map(|level| level.count).product::<usize>() * self.run_bytes
    }

    pub(super) fn run_bytes(&self) -> usize {
        self.run_bytes
    }

    /// Whether all of it is one run.
    pub(super) fn is_one_run(&self) -> bool {
        self.levels.is_empty()
    }

    /// How far the view's first element lies above the lowest byte, in the file.
    pub(super) fn above_bytes(&self) -> usize {
        self.above_bytes
    }

    /// How many runs there are.
    pub(super) fn count_runs(&self) -> usize {
        if self.run_bytes == 0 { 0 } else { self.levels.iter().map(|level| level.count).product() }
    }

    /// Where a run starts, in bytes above the lowest one; in ascending order of the outermost level.
    pub(super) fn run_start(&self, index: usize) -> usize {
        let place = |(rest, start): (usize, usize), level: &Level| {
            (rest / level.count, start + rest % level.count * level.step_bytes)
        };
        self.levels.iter().rev().fold((index, 0), place).1
    }

    /// The view of a buffer that was filled with the runs; `items` starts with the first run.
    pub(super) fn view<'b, T, D: Dimension>(&self, shape: D, items: &'b [T]) -> ArrayView<'b, T, D> {
        let mut strides = D::zeros(shape.ndim());
        for (stride, &own) in strides.slice_mut().iter_mut().zip(&self.strides) {
            *stride = own as usize; // ndarray keeps negative strides as wrapped ones
        }
        ArrayView::from_shape(shape.strides(strides), items)
            .expect("a buffer of `buffer_bytes` holds every element of the layout that it was made from")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array, Axis, IxDyn, Slice};
    use proptest::prelude::*;

    /// Fills a buffer run by run from the memory of `base`, which `view` is a part of.
    fn filled(layout: &RunLayout, lowest: usize, base: &[u16]) -> Vec<u16> {
        let mut buffer = Vec::new();
        for start in (0..layout.count_runs()).map(|index| layout.run_start(index)) {
            let first = (lowest + start) / 2;
            buffer.extend_from_slice(&base[first..first + layout.run_bytes() / 2]);
        }
        buffer
    }

    proptest! {
        /// A buffer filled with the runs of any sliced, permuted, inverted view reads as the view.
        #[test]
        fn a_filled_buffer_is_the_view(
            shape in prop::collection::vec(1_usize..5, 0..4),
            pad in prop_oneof![Just(0_usize), Just(20_000)],
            fortran: bool,
            inverted in prop::collection::vec(any::<bool>(), 5),
            steps in prop::collection::vec(1_isize..3, 5),
            reversed: bool,
        ) {
            let mut full = shape.clone();
            if pad > 0 && !full.is_empty() {
                full[shape.len() - 1] += pad; // a gap that is not read along
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
            let layout = RunLayout::new(view.shape(), view.strides(), 2, REACH_BYTES);
            let base = array.as_slice_memory_order().unwrap();
            let lowest = view.as_ptr() as usize - layout.above_bytes() - base.as_ptr() as usize;
            let buffer = filled(&layout, lowest, base);
            prop_assert_eq!(buffer.len() * 2, layout.buffer_bytes());
            prop_assert_eq!(layout.view(view.raw_dim(), &buffer), view);
        }
    }

    #[test]
    fn small_gaps_are_read_along_and_large_ones_skipped() {
        let row = RunLayout::new(&[10, 3], &[100, 1], 4, REACH_BYTES);
        assert!(row.is_one_run());
        assert_eq!(row.buffer_bytes(), 9 * 400 + 12);
        let apart = RunLayout::new(&[10, 3], &[10_000, 1], 4, REACH_BYTES);
        assert_eq!((apart.run_bytes(), apart.buffer_bytes()), (12, 120));
        assert_eq!(
            (0..apart.count_runs()).map(|index| apart.run_start(index)).collect::<Vec<_>>(),
            (0..10).map(|row| row * 40_000).collect::<Vec<_>>()
        );
        assert_eq!(RunLayout::new(&[10, 3], &[100, 1], 4, 0).buffer_bytes(), 120);
        assert_eq!(RunLayout::new(&[0, 3], &[3, 1], 4, REACH_BYTES).count_runs(), 0);
    }
}
