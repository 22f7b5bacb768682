//! [`Number`]: how elements of each type are added to [`Sums`], for many columns in parallel.

use super::strips::{MAX_ROWS, Rows, STRIP};
use super::sums::Sums;
use super::total::Exact;
use bytemuck::Pod;
use num_traits::AsPrimitive;
use std::marker::PhantomData;

/// An element type that can be added exactly.
pub(super) trait Number {
    type Item: Pod;

    /// Adds rows, with each element raised to the power `POWER` (1 or 2). Returns `false` if the sums are no longer exact.
    ///
    /// The loops contain no branches, so that the compiler can vectorise them.
    fn add<const POWER: u32, const K: usize>(rows: Rows<'_, Self::Item>, sums: &mut Sums<K>) -> bool;

    /// Adds the rows. This method is slower than `add`, but is exact for many values for which `add` is not exact.
    #[inline(always)]
    fn add_one_by_one<const POWER: u32, const K: usize>(_: Rows<'_, Self::Item>, _: &mut Sums<K>) -> bool {
        false
    }

    fn exact(value: Self::Item) -> Exact;
}

/// Adds a strip of values for each row.
#[inline(always)]
fn add_each<T: Pod + AsPrimitive<f64>, const POWER: u32, const K: usize>(
    rows: Rows<'_, T>,
    sums: &mut Sums<K>,
) -> bool {
    let mut is_exact = true;
    for row in rows.full() {
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
    fn add<const POWER: u32, const K: usize>(rows: Rows<'_, T>, sums: &mut Sums<K>) -> bool {
        add_each::<T, POWER, K>(rows, sums)
    }

    fn exact(value: T) -> Exact {
        value.as_().into()
    }
}

/// A plain sum of 64 values of a column is exact in `f64` if the binary exponents of the values differ by at most this
/// number.
///
/// Such a sum is exact if all values are multiples of some power of two, and 64 times the largest value is at most 2^53
/// times that power. Every `f32` is a multiple of its own last binary digit, which is greater than 2^-24 of its value.
/// Therefore the sum is exact if 64 times the largest value is at most 2^29 times the smallest value.
const EXACT_SPAN: i32 = 29 - 6;
const _: () = assert!(MAX_ROWS <= 64);

/// The number of columns whose squares are added together, so that their results fit the registers of the processor.
const HALF: usize = STRIP / 2;

/// Adds the squares of rows, whose largest magnitudes are `largest`. The sums are exact if the values of each column have
/// at most [`EXACT_SPAN`].
///
/// The square of an `f32` has at most 48 binary digits, so it is exact in `f64`, and neither overflows nor underflows.
/// Adding a power of two and subtracting it again splits the square: the high part is a multiple of 2^-52 of this power,
/// and the low part is the exact rest (Rump, Ogita and Oishi, 2008). Let `e` be the binary exponent of the largest value,
/// and let the power be `2^(2e + 8)`. Then
///
/// - each of the 64 squares is below `2^(2e + 2)`, so the sum of the high parts is at most the power, and is exact;
/// - each low part is at most `2^(2e - 45)`, so the sum of the low parts is at most `2^(2e - 39)`. If the exponent of the
///   smallest value is at least `e - 23`, the low parts are multiples of `2^(2(e - 23) - 46)`, which is `2^(2e - 92)`. So
///   the sum of the low parts has at most 53 digits, and is exact.
#[inline(always)]
fn add_squares<const K: usize>(rows: &[[f32; STRIP]], largest: &[i32; STRIP], sums: &mut Sums<K>) -> bool {
    let (mut high, mut low) = ([0.0; STRIP], [0.0; STRIP]);
    for first in [0, HALF] {
        let (mut highs, mut lows, mut powers) = ([0.0; HALF], [0.0; HALF], [0.0; HALF]);
        for column in 0..HALF {
            let exponent = i64::from((largest[first + column].wrapping_add(1) as u32) >> 23) - 127;
            powers[column] = f64::from_bits(((2 * exponent + 8 + 1023) as u64) << 52);
        }
        for row in rows {
            for column in 0..HALF {
                let value = f64::from(row[first + column]);
                let square = value * value;
                let upper = (square + powers[column]) - powers[column];
                highs[column] += upper;
                lows[column] += square - upper;
            }
        }
        high[first..first + HALF].copy_from_slice(&highs);
        low[first..first + HALF].copy_from_slice(&lows);
    }
    sums.add(&high) & sums.add(&low)
}

impl Number for f32 {
    type Item = Self;

    #[inline(always)]
    fn add<const POWER: u32, const K: usize>(rows: Rows<'_, Self>, sums: &mut Sums<K>) -> bool {
        let (mut totals, mut smallest, mut largest) = ([0.0; STRIP], [u32::MAX; STRIP], [0; STRIP]);
        // Squares need two passes over the rows. The rows are copied, because rows at a distance of a page would evict each
        // other from the processor's L1 cache.
        let (mut copied, mut count) = ([[0.0; STRIP]; MAX_ROWS], 0);
        for row in rows.full() {
            if POWER == 2 {
                copied[count] = *row;
                count += 1;
            }
            for column in 0..STRIP {
                // The bit patterns of magnitudes have the same order as the magnitudes. Subtracting one makes zero the
                // largest `u32` and the smallest `i32`, so zero counts neither as the smallest nor as the largest value.
                let magnitude = (row[column].to_bits() & !(1 << 31)).wrapping_sub(1);
                smallest[column] = smallest[column].min(magnitude);
                largest[column] = largest[column].max(magnitude as i32);
            }
            for column in 0..STRIP {
                totals[column] += if POWER == 1 { f64::from(row[column]) } else { 0.0 };
            }
        }
        // The exponent is stored above the 23 bits of the fraction.
        let mut is_inexact = false;
        for column in 0..STRIP {
            let smallest = smallest[column].min(i32::MAX as u32) as i32;
            is_inexact |= largest[column] - (EXACT_SPAN << 23) >= smallest;
        }
        let is_exact =
            if POWER == 1 { sums.add(&totals) } else { add_squares(&copied[..count], &largest, sums) };
        sums.renormalize();
        is_exact & !is_inexact
    }

    #[inline(always)]
    fn add_one_by_one<const POWER: u32, const K: usize>(rows: Rows<'_, Self>, sums: &mut Sums<K>) -> bool {
        let mut is_exact = true;
        for row in rows.full() {
            let mut values = [0.0; STRIP];
            for column in 0..STRIP {
                values[column] = f64::from(row[column]).powi(POWER as i32); // exact, also for squares
            }
            is_exact &= sums.add(&values);
        }
        sums.renormalize();
        is_exact
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

/// Implements [`Number`] for integers. The sum of 64 integers, or of their squares, is exact in `f64`. For large
/// integers, this is true for each limb of 32 bits.
macro_rules! integers {
    ($($integer:ty)*) => { $(
        impl Number for $integer {
            type Item = Self;

            #[inline(always)]
            fn add<const POWER: u32, const K: usize>(
                rows: Rows<'_, Self>,
                sums: &mut Sums<K>,
            ) -> bool {
                let mut is_exact = true;
                if POWER == 1 && size_of::<Self>() <= 4 || size_of::<Self>() <= 2 {
                    let mut totals = [0.0; STRIP];
                    for row in rows.full() {
                        for column in 0..STRIP {
                            let value = row[column] as f64;
                            totals[column] += if POWER == 1 { value } else { value * value };
                        }
                    }
                    is_exact &= sums.add(&totals);
                } else if POWER == 1 {
                    // The higher limb of the integer contains the sign.
                    let (mut low, mut high) = ([0_i64; STRIP], [0_i64; STRIP]);
                    for row in rows.full() {
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
                    for row in rows.full() {
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

            fn add<const POWER: u32, const K: usize>(
                _: Rows<'_, Self>,
                _: &mut Sums<K>,
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
