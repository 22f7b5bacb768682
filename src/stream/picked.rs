//! [`Picked`]: the indices of an axis that a selection keeps.

use ndarray::Slice;
use std::ops::Range;
use std::sync::Arc;

/// The selected indices of an axis, in the order of the selection. Every index exists on the axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picked {
    /// Indices at a constant distance.
    Steps(Steps),
    /// Any indices. The list is in an `Arc`, because the two streams of a `Zip` share it.
    List(Arc<Vec<usize>>),
}

/// The indices `first`, `first + step`, `first + 2 * step`, and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    first: usize,
    /// The step is never zero. The step is 1 if there are fewer than two indices.
    step: isize,
    len: usize,
}

impl Steps {
    fn new(first: usize, step: isize, len: usize) -> Self {
        Self { first, step: if len < 2 { 1 } else { step }, len }
    }

    /// Returns the indices that a slice selects. The slice must lie inside its axis, and its ends must not be negative.
    pub(super) fn of_slice(slice: Slice) -> Self {
        let start = slice.start.unsigned_abs();
        let end = slice.end.map_or(start, isize::unsigned_abs).max(start);
        let len = (end - start).div_ceil(slice.step.unsigned_abs());
        let first = if slice.step < 0 && len > 0 { end - 1 } else { start };
        Self::new(first, slice.step, len)
    }

    /// Returns the slice that selects these indices.
    pub(super) fn to_slice(self) -> Slice {
        let ends = (self.first, self.at(self.len.saturating_sub(1)));
        let (low, high) = (ends.0.min(ends.1), ends.0.max(ends.1) + usize::from(self.len > 0));
        Slice::new(low as isize, Some(high as isize), self.step) // the length of an axis fits `isize`
    }

    fn at(self, place: usize) -> usize {
        self.first.wrapping_add_signed(self.step.wrapping_mul(place as isize))
    }

    /// Counts the indices from `place` up to the first index outside `range`. The index at `place` must be in the
    /// range.
    fn count_inside(self, place: usize, range: &Range<usize>) -> usize {
        let at = self.at(place);
        let room = if self.step > 0 { range.end - 1 - at } else { at - range.start };
        (room / self.step.unsigned_abs() + 1).min(self.len - place)
    }
}

impl Picked {
    /// Returns no indices.
    pub(super) fn nothing() -> Self {
        Self::Steps(Steps::new(0, 1, 0))
    }

    /// Returns the selection of the indices in a list. If neighbouring indices always have the same positive distance,
    /// the result is stored as [`Steps`].
    pub(super) fn of_list(list: Vec<usize>) -> Self {
        match as_steps(&list) {
            Some(steps) => Self::Steps(steps),
            None => Self::List(Arc::new(list)),
        }
    }

    /// Returns the number of indices.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Steps(steps) => steps.len,
            Self::List(list) => list.len(),
        }
    }

    /// Returns the index at a place.
    pub(super) fn at(&self, place: usize) -> usize {
        match self {
            Self::Steps(steps) => steps.at(place),
            Self::List(list) => list[place],
        }
    }

    /// Returns all indices, in order.
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> {
        (0..self.len()).map(|place| self.at(place))
    }

    /// Returns the selection that has the same result as this selection, followed by `later`.
    pub(super) fn then(&self, later: &Self) -> Self {
        match (self, later) {
            (Self::Steps(own), Self::Steps(later)) if later.len > 0 => {
                Self::Steps(Steps::new(own.at(later.first), own.step.wrapping_mul(later.step), later.len))
            }
            (_, later) => Self::of_list(later.indices().map(|place| self.at(place)).collect()),
        }
    }

    /// Counts the indices from `place` up to the first index outside `range`. The index at `place` must be in the
    /// range.
    pub(super) fn count_inside(&self, place: usize, range: &Range<usize>) -> usize {
        match self {
            Self::Steps(steps) => steps.count_inside(place, range),
            Self::List(list) => list[place..].iter().take_while(|&index| range.contains(index)).count(),
        }
    }
}

/// A selection that is built by appending parts of other selections.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces {
    /// The selection, if it consists of one part that is [`Steps`]. In this case, `list` is empty.
    steps: Option<Steps>,
    list: Vec<usize>,
}

impl Pieces {
    pub(super) fn len(&self) -> usize {
        self.steps.map_or(self.list.len(), |steps| steps.len)
    }

    /// Appends `count` indices of `picked`, starting at `place`. Adds `moved` to each index.
    pub(super) fn add(&mut self, picked: &Picked, place: usize, count: usize, moved: isize) {
        let index = |place| picked.at(place).wrapping_add_signed(moved);
        match picked {
            Picked::Steps(steps) if self.len() == 0 => {
                self.steps = Some(Steps::new(index(place), steps.step, count));
            }
            _ => {
                if let Some(steps) = self.steps.take() {
                    self.list.extend(Picked::Steps(steps).indices());
                }
                self.list.extend((place..place + count).map(index));
            }
        }
    }

    pub(super) fn into_picked(self) -> Picked {
        match self.steps {
            Some(steps) => Picked::Steps(steps),
            None if self.list.is_empty() => Picked::nothing(),
            None => Picked::of_list(self.list),
        }
    }
}

/// Returns the same indices as [`Steps`], if the list has a constant positive distance.
fn as_steps(list: &[usize]) -> Option<Steps> {
    let &first = list.first()?;
    let step = if list.len() > 1 { list[1].checked_sub(first)? } else { 1 };
    let regular = step > 0 && list.windows(2).all(|pair| pair[0].checked_add(step) == Some(pair[1]));
    regular.then(|| Steps::new(first, step as isize, list.len())) // an index fits `isize`
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Axis};
    use proptest::prelude::*;

    const LEN: usize = 40;

    /// Any selection of an axis of `len` indices, made from random numbers.
    fn picked(len: usize, slice: bool, start: usize, end: usize, step: isize, list: &[usize]) -> Picked {
        if slice || len == 0 {
            let (start, end) = (start % (len + 1), end % (len + 1));
            let (start, end) = (start.min(end) as isize, start.max(end) as isize);
            Picked::Steps(Steps::of_slice(Slice::new(start, Some(end), step)))
        } else {
            Picked::of_list(list.iter().map(|index| index % len).collect())
        }
    }

    proptest! {
        #[test]
        fn selections_equal_those_of_ndarray(
            slices: [bool; 2],
            starts in [0..LEN, 0..LEN],
            ends in [0..LEN, 0..LEN],
            steps in [prop_oneof![-5_isize..0, 1_isize..6], prop_oneof![-5_isize..0, 1_isize..6]],
            lists in prop::collection::vec(prop::collection::vec(0..LEN, 0..9), 2),
            cut in 0..LEN,
        ) {
            let own = picked(LEN, slices[0], starts[0], ends[0], steps[0], &lists[0]);
            let all = Array1::from_iter(0..LEN);
            let mut expected = all.select(Axis(0), &own.indices().collect::<Vec<_>>());
            if let Picked::Steps(steps) = own {
                prop_assert_eq!(&all.slice_axis(Axis(0), steps.to_slice()), &expected);
            }
            let later = picked(own.len(), slices[1], starts[1], ends[1], steps[1], &lists[1]);
            expected = expected.select(Axis(0), &later.indices().collect::<Vec<_>>());
            let both = own.then(&later);
            prop_assert_eq!(both.indices().collect::<Array1<_>>(), expected);

            // Cut the axis in two, and put the pieces together again.
            let (mut pieces, mut place) = (Pieces::default(), 0);
            while place < both.len() {
                let half = if both.at(place) < cut { 0..cut } else { cut..LEN };
                let count = both.count_inside(place, &half);
                let inside = (place..both.len()).take_while(|&place| half.contains(&both.at(place))).count();
                prop_assert_eq!(count, inside);
                pieces.add(&both, place, count, 3);
                place += count;
            }
            let moved = pieces.into_picked();
            prop_assert_eq!(moved.indices().collect::<Vec<_>>(), both.indices().map(|index| index + 3).collect::<Vec<_>>());
        }
    }

    #[test]
    fn only_lists_with_a_constant_positive_distance_become_steps() {
        let steps = |list: &[usize]| as_steps(list).map(|steps| (steps.first, steps.step, steps.len));
        assert_eq!(steps(&[5]), Some((5, 1, 1)));
        assert_eq!(steps(&[2, 3, 4]), Some((2, 1, 3)));
        assert_eq!(steps(&[1, 4, 7]), Some((1, 3, 3)));
        for irregular in [&[][..], &[3, 3], &[3, 2], &[1, 2, 4]] {
            assert_eq!(steps(irregular), None);
        }
    }
}
