//! [`Number`]: how elements of each type are added to [`Sums`], for many columns in parallel.

use super::sums::{STRIP, Sums};
use super::total::Exact;
use bytemuck::Pod;
use num_traits::AsPrimitive;
use std::marker::PhantomData;

/// An element type that can be added exactly.
pub(super) trait Number {
    type Item: Pod;

    /// Adds `R` rows (a power of two, at most 16), with each element raised to the power `POWER` (1 or 2). Returns
    /// `false` if the sums are no longer exact.
    ///
    /// The loops contain no branches, so that the compiler can vectorise them.
    fn add<const POWER: u32, const R: usize, const K: usize>(
        rows: &[&[Self::Item; STRIP]; R],
        sums: &mut Sums<'_, K>,
    ) -> bool;

    /// Adds the rows. This method is slower than `add`, but is exact for many values for which `add` is not exact.
    #[inline(always)]
    fn add_one_by_one<const POWER: u32, const R: usize, const K: usize>(
        _: &[&[Self::Item; STRIP]; R],
        _: &mut Sums<'_, K>,
    ) -> bool {
        false
    }

    fn exact(value: Self::Item) -> Exact;
}

/// Returns how many of `rows` rows are read in parallel. If the length of a row is a multiple of a page, more rows
/// would evict each other from the processor's L1 cache.
const fn parallel_rows(rows: usize) -> usize {
    if rows < 4 { rows } else { 4 }
}

/// Adds a strip of values for each row.
#[inline(always)]
fn add_each<T: AsPrimitive<f64>, const POWER: u32, const R: usize, const K: usize>(
    rows: &[&[T; STRIP]; R],
    sums: &mut Sums<'_, K>,
) -> bool {
    let mut is_exact = true;
    for row in rows {
        let mut values = [0.0; STRIP];
        for column in 0..STRIP {
            values[column] = row[column].as_();
        }
        is_exact &= if POWER == 1 { sums.add(&values) } else { sums.add_squares(&values) };
    }
    sums.renormalize();
    is_exact
}

/// Adds elements of a type by converting each of them to `f64`.
pub(super) struct Converted<T>(PhantomData<T>);

impl<T: Pod + AsPrimitive<f64>> Number for Converted<T> {
    type Item = T;

    #[inline(always)]
    fn add<const POWER: u32, const R: usize, const K: usize>(
        rows: &[&[T; STRIP]; R],
        sums: &mut Sums<'_, K>,
    ) -> bool {
        add_each::<T, POWER, R, K>(rows, sums)
    }

    fn exact(value: T) -> Exact {
        value.as_().into()
    }
}

/// A plain sum of 16 values of a column is exact in `f64` if the binary exponents of the values differ by at most this
/// number.
///
/// Such a sum is exact if all values are multiples of some power of two, and 16 times the largest value is at most 2^53
/// times that power. Every `f32` is a multiple of its own last binary digit, which is greater than 2^-24 of its value.
/// Therefore the sum is exact if 16 times the largest value is at most 2^29 times the smallest value.
const EXACT_SPAN: i32 = 29 - 4;

/// Adds a strip of squares for each row.
#[inline(always)]
fn add_squares<const R: usize, const K: usize>(rows: &[&[f32; STRIP]; R], sums: &mut Sums<'_, K>) -> bool {
    let mut is_exact = true;
    for row in rows {
        // The square of a number with 24 binary digits has at most 48 digits. In `f64`, the square neither overflows
        // nor underflows.
        let mut squares = [0.0; STRIP];
        for column in 0..STRIP {
            squares[column] = f64::from(row[column]) * f64::from(row[column]);
        }
        is_exact &= sums.add(&squares);
    }
    sums.renormalize();
    is_exact
}

impl Number for f32 {
    type Item = Self;

    #[inline(always)]
    fn add<const POWER: u32, const R: usize, const K: usize>(
        rows: &[&[Self; STRIP]; R],
        sums: &mut Sums<'_, K>,
    ) -> bool {
        if POWER == 2 {
            return add_squares(rows, sums);
        }
        let (mut totals, mut smallest, mut largest) = ([0.0; STRIP], [u32::MAX; STRIP], [0; STRIP]);
        for rows in rows.chunks_exact(parallel_rows(R)) {
            for column in 0..STRIP {
                for row in &rows[..parallel_rows(R)] {
                    // The bit patterns of magnitudes have the same order as the magnitudes. Subtracting one makes zero
                    // the largest `u32` and the smallest `i32`, so zero counts neither as the smallest nor as the
                    // largest value.
                    let magnitude = (row[column].to_bits() & !(1 << 31)).wrapping_sub(1);
                    smallest[column] = smallest[column].min(magnitude);
                    largest[column] = largest[column].max(magnitude as i32);
                }
            }
            for column in 0..STRIP {
                let mut total = 0.0;
                for row in &rows[..parallel_rows(R)] {
                    total += f64::from(row[column]);
                }
                totals[column] += total;
            }
        }
        // The exponent is stored above the 23 bits of the fraction.
        let mut is_inexact = false;
        for column in 0..STRIP {
            let smallest = smallest[column].min(i32::MAX as u32) as i32;
            is_inexact |= largest[column] - (EXACT_SPAN << 23) >= smallest;
        }
        let is_exact = sums.add(&totals) & !is_inexact;
        sums.renormalize();
        is_exact
    }

    #[inline(always)]
    fn add_one_by_one<const POWER: u32, const R: usize, const K: usize>(
        rows: &[&[Self; STRIP]; R],
        sums: &mut Sums<'_, K>,
    ) -> bool {
        // For squares, `add` already adds the values one by one, so there is no slower and more exact method.
        POWER == 1 && add_each::<Self, POWER, R, K>(rows, sums)
    }

    fn exact(value: Self) -> Exact {
        f64::from(value).into()
    }
}

/// The weight of the higher limb of an integer's sum.
const LIMB: f64 = (1_u64 << 32) as f64;

fn integer(is_negative: bool, magnitude: u128) -> Exact {
    Exact::Finite { is_negative, magnitude, exponent: 0 }
}

/// Implements [`Number`] for integers. The sum of 16 integers, or of their squares, is exact in `f64`. For large
/// integers, this is true for each limb of 32 bits.
macro_rules! integers {
    ($($integer:ty)*) => { $(
        impl Number for $integer {
            type Item = Self;

            #[inline(always)]
            fn add<const POWER: u32, const R: usize, const K: usize>(
                rows: &[&[Self; STRIP]; R],
                sums: &mut Sums<'_, K>,
            ) -> bool {
                let mut is_exact = true;
                if POWER == 1 && size_of::<Self>() <= 4 || size_of::<Self>() <= 2 {
                    let mut totals = [0.0; STRIP];
                    for rows in rows.chunks_exact(parallel_rows(R)) {
                        for column in 0..STRIP {
                            let mut total = 0.0;
                            for row in &rows[..parallel_rows(R)] {
                                let value = row[column] as f64;
                                total += if POWER == 1 { value } else { value * value };
                            }
                            totals[column] += total;
                        }
                    }
                    is_exact &= sums.add(&totals);
                } else if POWER == 1 {
                    // The higher limb of the integer contains the sign.
                    let (mut low, mut high) = ([0_i64; STRIP], [0_i64; STRIP]);
                    for row in rows {
                        for column in 0..STRIP {
                            low[column] += i64::from(row[column] as u32);
                            high[column] += (row[column] >> (size_of::<Self>() * 4)) as i64;
                        }
                    }
                    let (mut lows, mut highs) = ([0.0; STRIP], [0.0; STRIP]);
                    for column in 0..STRIP {
                        (lows[column], highs[column]) = (low[column] as f64, high[column] as f64 * LIMB);
                    }
                    is_exact &= sums.add(&highs) & sums.add(&lows);
                } else {
                    let mut limbs = [[0_u64; STRIP]; 4];
                    for row in rows {
                        for column in 0..STRIP {
                            let magnitude = i128::from(row[column]).unsigned_abs();
                            let square = magnitude * magnitude; // at most 128 bits
                            for (index, limb) in limbs.iter_mut().enumerate() {
                                limb[column] += u64::from((square >> (32 * index)) as u32);
                            }
                        }
                    }
                    let mut weight = 1.0;
                    for limb in limbs {
                        let mut totals = [0.0; STRIP];
                        for column in 0..STRIP {
                            totals[column] = limb[column] as f64 * weight;
                        }
                        is_exact &= sums.add(&totals);
                        weight *= LIMB;
                    }
                }
                sums.renormalize();
                is_exact
            }

            fn exact(value: Self) -> Exact {
                integer(value < 1 && value != 0, i128::from(value).unsigned_abs())
            }
        }
    )* };
}

integers! { i8 u8 i16 u16 i32 u32 i64 u64 }

/// Implements [`Number`] for integers that are always added to a [`Total`](super::total::Total).
macro_rules! huge_integers {
    ($($integer:ty, $magnitude:ident;)*) => { $(
        impl Number for $integer {
            type Item = Self;

            fn add<const POWER: u32, const R: usize, const K: usize>(
                _: &[&[Self; STRIP]; R],
                _: &mut Sums<'_, K>,
            ) -> bool {
                false
            }

            fn exact(value: Self) -> Exact {
                integer(value < 1 && value != 0, value.$magnitude())
            }
        }
    )* };
}

huge_integers! { i128, unsigned_abs; u128, into; }
