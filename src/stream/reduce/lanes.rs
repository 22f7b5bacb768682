//! [`Lanes`]: exact sums of many columns in parallel.

use super::number::{Converted, Number};
use super::strips::{Rows, STRIP, by_strips, lanes_of};
use super::sums::{Strip, Sums};
use super::total::Total;
use bytemuck::Pod;
use num_traits::AsPrimitive;
use std::any::TypeId;
use std::array;
use std::collections::BTreeMap;

/// The maximum size in bytes of elements that are copied to strips. Larger elements could fill the stack.
const MAX_COPIED_BYTES: usize = 16;

/// The exact sums of the columns of rows, with each element raised to the power `POWER`.
///
/// The sum of a column is the sum of the `K` numbers of each of its lanes, plus its total in `spilled`. Lane `l` belongs to
/// column `l % columns`.
pub(super) struct Lanes<const POWER: u32, const K: usize> {
    columns: usize,
    /// The number of lanes, which is a multiple of the number of columns.
    lanes: usize,
    /// `sums[k]` contains number `k` of every lane. The exact sum of a lane is the sum of its `K` numbers. Each
    /// [`Strip`] contains the numbers of [`STRIP`] consecutive lanes.
    sums: [Vec<Strip>; K],
    /// The totals of columns whose values differ so much in size that `K` numbers could not hold their sum. A total needs
    /// up to about 300 bytes, or 550 bytes for squares.
    spilled: BTreeMap<usize, Total>,
}

impl<const POWER: u32, const K: usize> Lanes<POWER, K> {
    /// The memory of a column that has one lane and no total.
    pub(super) const COLUMN_BYTES: usize = K * size_of::<f64>();

    pub(super) fn new(columns: usize) -> Self {
        let lanes = lanes_of(columns);
        let strips = lanes.div_ceil(STRIP);
        Self {
            columns,
            lanes,
            sums: array::from_fn(|_| vec![[0.0; STRIP]; strips]),
            spilled: BTreeMap::new(),
        }
    }

    /// Adds rows in C order.
    pub(super) fn add<T: Pod + AsPrimitive<f64>>(&mut self, items: &[T]) {
        macro_rules! natively {
            ($($native:ty as $number:ty),*) => { $(
                if TypeId::of::<T>() == TypeId::of::<$native>() {
                    return self.add_numbers::<$number>(bytemuck::cast_slice(items));
                }
            )* };
        }
        natively!(f32 as f32, i8 as i8, u8 as u8, i16 as i16, u16 as u16, i32 as i32, u32 as u32);
        natively!(i64 as i64, u64 as u64, i128 as i128, u128 as u128);
        #[cfg(target_pointer_width = "64")]
        natively!(isize as i64, usize as u64);
        #[cfg(target_pointer_width = "32")]
        natively!(isize as i32, usize as u32);
        if size_of::<T>() <= MAX_COPIED_BYTES {
            return self.add_numbers::<Converted<T>>(items);
        }
        let mut numbers = Vec::<f64>::new();
        for row in items.chunks(self.lanes.max(1)) {
            numbers.clear();
            numbers.extend(row.iter().map(|item| item.as_()));
            self.add_numbers::<Converted<f64>>(&numbers);
        }
    }

    fn add_numbers<N: Number>(&mut self, items: &[N::Item]) {
        let lanes = self.lanes;
        by_strips(
            lanes,
            items,
            #[inline(always)]
            |first, rows| self.add_strip::<N>(first, rows),
        );
    }

    /// Adds the rows of a strip. `first` is the lane of the first element of each row.
    #[inline(always)]
    fn add_strip<N: Number>(&mut self, first: usize, rows: Rows<'_, N::Item>) {
        let padded;
        let full = match rows.width() {
            STRIP => rows,
            _ => {
                padded = rows.padded();
                Rows::of(&padded)
            }
        };
        let strip = first / STRIP;
        let before = Sums(array::from_fn(|part| self.sums[part][strip]));
        let mut sums = before;
        let is_exact = N::add::<POWER, K>(full, &mut sums) || {
            sums = before;
            N::add_one_by_one::<POWER, K>(full, &mut sums)
        };
        match is_exact {
            true => self.sums.iter_mut().zip(sums.0).for_each(|(part, sums)| part[strip] = sums),
            false => self.spill::<N>(first, rows),
        }
    }

    /// Adds rows to the totals of their columns. `first` is the lane of the first element of each row.
    #[cold]
    fn spill<N: Number>(&mut self, first: usize, rows: Rows<'_, N::Item>) {
        for at in 0..rows.width() {
            let total = self.spilled.entry((first + at) % self.columns).or_default();
            for row in rows.iter() {
                match POWER {
                    1 => total.add(N::exact(row[at])),
                    _ => total.add_square(N::exact(row[at])),
                }
            }
        }
    }

    /// Adds the sum of a column to a total.
    pub(super) fn add_column_to(&self, column: usize, total: &mut Total) {
        for strips in &self.sums {
            let lanes = &strips.as_flattened()[..self.lanes];
            lanes[column..].iter().step_by(self.columns).for_each(|&sum| total.add(sum));
        }
        if let Some(spilled) = self.spilled.get(&column) {
            total.merge(spilled);
        }
    }
}
