//! [`Brackets`]: for each column, the range of values that contains the wanted quantile, and [`Found`]: what one thread
//! has found in these ranges in a pass over the rows.

use crate::sys::with_wide_vectors;
use bytemuck::Pod;
use bytemuck::allocation::zeroed_vec;
use num_traits::AsPrimitive;
use std::ops::Range;

/// The number of lanes whose elements are compared by one vectorised loop.
const STRIP: usize = 64;

/// The minimum number of lanes, which are the elements that are compared in parallel. Lane `l` belongs to column `l %
/// columns`. So several rows are compared in parallel if they are narrow.
const MIN_LANES: usize = 8 * STRIP;

/// The memory of the counts of a column.
pub(super) const COUNTS_BYTES: usize = 2 * size_of::<u64>() + size_of::<Counts>();

type Strip<T> = [T; STRIP];

/// The brackets of a group of columns. A bracket is a closed range of values.
#[derive(Debug)]
pub(super) struct Brackets {
    /// The columns whose brackets these are.
    group: Range<usize>,
    /// The number of elements of a row.
    row_len: usize,
    /// The number of lanes: the columns of the group, repeated if one row has few elements.
    lanes: usize,
    /// The lower end of the bracket of each lane. Both ends are NaN if the lane needs no bracket.
    low: Vec<Strip<f64>>,
    high: Vec<Strip<f64>>,
    /// The number of elements that a thread keeps for each column.
    capacity: usize,
}

impl Brackets {
    /// Returns the memory that [`Found`] needs for each column.
    pub(super) fn column_bytes<T>(capacity: usize) -> usize {
        capacity * size_of::<T>() + COUNTS_BYTES
    }

    /// Returns brackets for the columns `group` of rows of `row_len` elements. `bracket_of` returns the two ends for
    /// each column of the group, or `None` if the quantile of the column is known.
    pub(super) fn new(
        group: Range<usize>,
        row_len: usize,
        capacity: usize,
        bracket_of: impl Fn(usize) -> Option<(f64, f64)>,
    ) -> Self {
        let columns = group.len();
        let rows = if columns == row_len { (MIN_LANES / columns).max(1) } else { 1 };
        let (lanes, strips) = (rows * columns, (rows * columns).div_ceil(STRIP));
        let (mut low, mut high) = (vec![[f64::NAN; STRIP]; strips], vec![[f64::NAN; STRIP]; strips]);
        for lane in 0..lanes {
            if let Some(bracket) = bracket_of(lane % columns) {
                (low[lane / STRIP][lane % STRIP], high[lane / STRIP][lane % STRIP]) = bracket;
            }
        }
        Self { group, row_len, lanes, low, high, capacity }
    }

    /// Compares rows in C order with the brackets.
    pub(super) fn compare<T: Pod + AsPrimitive<f64>>(&self, items: &[T], found: &mut Found<T>) {
        let wide_row_len = if self.lanes == self.group.len() { self.row_len } else { self.lanes };
        for strip in 0..self.low.len() {
            let lanes = strip * STRIP..((strip + 1) * STRIP).min(self.lanes);
            if self.low[strip].iter().all(|low| low.is_nan()) {
                continue;
            }
            let first = self.group.start + lanes.start;
            for row in items.chunks(wide_row_len) {
                // The last rows can fill fewer lanes.
                let end = row.len().min(first + lanes.len());
                if first < end {
                    self.compare_strip(strip, &row[first..end], found);
                }
            }
        }
    }

    fn compare_strip<T: Pod + AsPrimitive<f64>>(&self, strip: usize, items: &[T], found: &mut Found<T>) {
        let filled: Strip<T>;
        let full: &Strip<T> = match items.try_into() {
            Ok(full) => full,
            Err(_) => {
                filled = std::array::from_fn(|lane| items.get(lane).copied().unwrap_or_else(T::zeroed));
                &filled
            }
        };
        let (low, high) = (&self.low[strip], &self.high[strip]);
        let (below, nans) = (&mut found.below[strip], &mut found.nans[strip]);
        let mut is_inside = with_wide_vectors(|| compare(full, low, high, below, nans));
        if items.len() < STRIP {
            // The strip ends with zeros that are not elements.
            for lane in items.len()..STRIP {
                below[lane] -= u64::from(low[lane] > 0.0);
                is_inside[lane] = 0;
            }
        }
        for (word, flags) in bytemuck::cast::<_, [u64; STRIP / 8]>(is_inside).into_iter().enumerate() {
            let mut flags = u64::from_le(flags);
            while flags != 0 {
                let lane = word * 8 + flags.trailing_zeros() as usize / 8;
                flags &= flags - 1;
                let column = match self.lanes == self.group.len() {
                    true => strip * STRIP + lane,
                    false => (strip * STRIP + lane) % self.group.len(),
                };
                found.keep(column, full[lane], low[lane], high[lane], self.capacity);
            }
        }
    }
}

/// Counts, in each lane, elements below the bracket and NaN. Returns 1 for each lane whose element is in the bracket,
/// and otherwise 0.
#[inline(always)]
fn compare<T: AsPrimitive<f64>>(
    items: &Strip<T>,
    low: &Strip<f64>,
    high: &Strip<f64>,
    below: &mut Strip<u64>,
    nans: &mut Strip<u64>,
) -> Strip<u8> {
    let mut is_inside = [0; STRIP];
    for lane in 0..STRIP {
        let value: f64 = items[lane].as_();
        below[lane] += u64::from(value < low[lane]);
        nans[lane] += u64::from(value.is_nan());
        is_inside[lane] = u8::from((value >= low[lane]) & (value <= high[lane]));
    }
    is_inside
}

/// What one thread has found in its rows.
#[derive(Debug)]
pub(super) struct Found<T> {
    /// The number of elements below the bracket, for each lane.
    below: Vec<Strip<u64>>,
    /// The number of NaN, for each lane.
    nans: Vec<Strip<u64>>,
    /// The counts of elements in the bracket, for each column.
    counts: Vec<Counts>,
    /// The elements strictly between the ends of the bracket. Each column has `capacity` places. If a column has more
    /// such elements, the places contain a random sample of them.
    kept: Vec<T>,
    random: Random,
}

/// The number of elements of a column that are equal to the ends of its bracket, or between the ends.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    at_low: u64,
    between: u64,
    at_high: u64,
}

impl<T: Pod + AsPrimitive<f64>> Found<T> {
    pub(super) fn new(brackets: &Brackets) -> Self {
        let (strips, columns) = (brackets.low.len(), brackets.group.len());
        Self {
            below: vec![[0; STRIP]; strips],
            nans: vec![[0; STRIP]; strips],
            counts: vec![Counts::default(); columns],
            // Pages of this buffer that are never written need no memory.
            kept: zeroed_vec(columns * brackets.capacity),
            random: Random(1),
        }
    }

    /// Records an element that is in the bracket.
    fn keep(&mut self, column: usize, item: T, low: f64, high: f64, capacity: usize) {
        let value: f64 = item.as_();
        let counts = &mut self.counts[column];
        if value == low {
            counts.at_low += 1;
        } else if value == high {
            counts.at_high += 1;
        } else {
            let place = match counts.between {
                count if count < capacity as u64 => count,
                count => self.random.below(count + 1),
            };
            counts.between += 1;
            if place < capacity as u64 {
                self.kept[column * capacity + place as usize] = item;
            }
        }
    }
}

/// What all threads together have found for one column.
#[derive(Debug, Default)]
pub(super) struct ColumnFound {
    pub(super) below: u64,
    pub(super) at_low: u64,
    pub(super) between: u64,
    pub(super) at_high: u64,
    pub(super) nans: u64,
    /// The kept elements between the ends of the bracket. If the number of kept elements is `between`, these are all
    /// such elements. Otherwise they are a sample.
    pub(super) kept: Vec<f64>,
    /// The number of elements that each thread has kept, and how many elements of the column each kept element
    /// represents.
    pub(super) weights: Vec<(usize, f64)>,
}

impl ColumnFound {
    /// Replaces the contents by what the threads have found for a column.
    pub(super) fn collect<T: Pod + AsPrimitive<f64>>(
        &mut self,
        brackets: &Brackets,
        found: &[Found<T>],
        column: usize,
    ) {
        let (kept, weights) = (std::mem::take(&mut self.kept), std::mem::take(&mut self.weights));
        *self = Self { kept, weights, ..Self::default() };
        self.kept.clear();
        self.weights.clear();
        let lanes = || (column..brackets.lanes).step_by(brackets.group.len());
        for part in found {
            self.below += lanes().map(|lane| part.below[lane / STRIP][lane % STRIP]).sum::<u64>();
            self.nans += lanes().map(|lane| part.nans[lane / STRIP][lane % STRIP]).sum::<u64>();
            let counts = part.counts[column];
            self.at_low += counts.at_low;
            self.between += counts.between;
            self.at_high += counts.at_high;
            let kept = counts.between.min(brackets.capacity as u64) as usize;
            let first = column * brackets.capacity;
            self.kept.extend(part.kept[first..first + kept].iter().map(|item| item.as_()));
            self.weights.push((kept, counts.between as f64 / kept.max(1) as f64));
        }
    }
}

/// Random numbers (splitmix64). The random numbers determine which rows are sampled, and so the number of passes. They
/// do not change the result.
#[derive(Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Returns a random number that is less than `end`. `end` must be greater than zero.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(mixed ^ mixed >> 31) * u128::from(end)) >> 64) as u64
    }
}
