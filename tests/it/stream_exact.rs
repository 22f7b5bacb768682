//! Tests that compare reductions with exact rational arithmetic. A result may differ by at most 1 ulp (unit in the last
//! place), and its bits must not depend on the budget or the number of threads.
//!
//! `NDARRAY_MMAP_RANDOM_COLUMNS` sets how many random columns are tested (2000 if it is not set).

mod rational;

use self::rational::Rational;
use bytemuck::Pod;
use ndarray::{Array1, Array2};
use ndarray_mmap::stream::{Budget, Stream};
use num_traits::AsPrimitive;
use std::fmt::Debug;

/// Random numbers from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Returns a number between -1 and 1.
    fn signed(&mut self) -> f64 {
        (self.bits() as i64 >> 10) as f64 / (1_u64 << 53) as f64
    }
}

/// An element type that can generate values which are hard to sum exactly.
trait Hard: Pod + AsPrimitive<f64> + Send + Sync + Debug {
    /// The number of kinds of columns for which `random` can generate values.
    const KINDS: usize;

    /// Returns a random value for a column of this kind.
    fn random(random: &mut Random, kind: usize) -> Self;

    fn rational(self) -> Rational;
}

macro_rules! hard_floats {
    ($($float:ident, $bits:ty, $digits:literal, $least:literal, $most:literal;)*) => { $(
        impl Hard for $float {
            const KINDS: usize = 9;

            fn random(random: &mut Random, kind: usize) -> Self {
                let (value, power) = (random.signed(), |exponent: i32| 2.0_f64.powi(exponent));
                (match kind {
                    0 => value,
                    1 => value * 1e-3 + 1e4,
                    // The bits are random, and the value is finite.
                    2 => loop {
                        let any = Self::from_bits(random.bits() as $bits);
                        if any.is_finite() {
                            return any;
                        }
                    },
                    3 => value * power(random.below(2 * $digits) as i32 - $digits),
                    // Subnormal numbers.
                    4 => return Self::from_bits((random.bits() as $bits >> 2) % (1 << ($digits - 2))),
                    5 => value * power($least),
                    6 => value.signum() * (1.0 - value.abs() * 1e-3) * power($most),
                    // Values that nearly cancel each other.
                    7 => [1.0, -1.0, 1.0 + power(1 - $digits), -1.0 + power(-$digits), power(-2 * $digits)]
                        [random.below(5)] * power($digits),
                    _ => [0.0, -0.0, value, 1.0][random.below(4)],
                }) as Self
            }

            fn rational(self) -> Rational {
                Rational::from(f64::from(self))
            }
        }
    )* };
}

hard_floats! { f32, u32, 24, -140, 127; f64, u64, 53, -1060, 1023; }

macro_rules! hard_integers {
    ($($integer:ident)*) => { $(
        impl Hard for $integer {
            const KINDS: usize = 4;

            fn random(random: &mut Random, kind: usize) -> Self {
                let small = random.below(100) as Self;
                match kind {
                    0 => (u128::from(random.bits()) << 64 | u128::from(random.bits())) as Self,
                    1 => Self::MAX - small,
                    2 => [Self::MIN, Self::MAX, Self::MIN + small, 0][random.below(4)],
                    _ => Self::MAX / 100 + small,
                }
            }

            fn rational(self) -> Rational {
                let magnitude = if self < 1 { (self as i128).unsigned_abs() } else { self as u128 };
                Rational::integer(self < 1, magnitude)
            }
        }
    )* };
}

hard_integers! { i8 u8 i16 u16 i32 u32 i64 u64 isize usize i128 u128 }

#[cfg(feature = "half")]
impl Hard for half::f16 {
    const KINDS: usize = 3;

    fn random(random: &mut Random, kind: usize) -> Self {
        match kind {
            0 => Self::from_f64(random.signed()),
            1 => Self::from_bits(random.bits() as u16 & 0xbbff),
            _ => Self::from_f64(60_000.0 * random.signed()),
        }
    }

    fn rational(self) -> Rational {
        Rational::from(f64::from(self))
    }
}

fn columns_to_try() -> usize {
    std::env::var("NDARRAY_MMAP_RANDOM_COLUMNS").map_or(2000, |count| count.parse().unwrap())
}

/// Returns the distance between two `f64` in ulp. The distance between two NaN is 0.
fn ulps(a: f64, b: f64) -> u64 {
    let ordered = |value: f64| match value.to_bits() as i64 {
        bits @ 0.. => bits,
        bits => i64::MIN - bits,
    };
    if a.is_nan() && b.is_nan() { 0 } else { ordered(a).abs_diff(ordered(b)) }
}

fn bits(values: &Array1<f64>) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Asserts that each result is within `limit` ulp of the expected result, and that its bits do not depend on the budget
/// or the number of threads.
fn check(
    what: &str,
    limit: u64,
    expected: &[f64],
    reduce: &dyn Fn(Budget, usize) -> ndarray_mmap::Result<Array1<f64>>,
) {
    let first = reduce(Budget::default(), 1).unwrap();
    for (column, (&found, &expected)) in first.iter().zip(expected).enumerate() {
        assert!(ulps(found, expected) <= limit, "{what}: column {column}: {found:e}, exactly {expected:e}");
    }
    assert_eq!(first.len(), expected.len());
    let budgets =
        [(1, 1), (1, 2), (1, 7), (100_000, 2)].map(|(bytes, threads)| (Budget::bytes(bytes), threads));
    for (budget, threads) in budgets.into_iter().chain([(Budget::chunk_rows(3), 7)]) {
        let again = reduce(budget, threads).unwrap();
        assert_eq!(bits(&again), bits(&first), "{what}: {budget:?}, {threads} threads");
    }
}

/// Tests `columns` random columns of one element type, in arrays of random shapes.
fn check_type<T: Hard>(columns: usize) {
    let mut random = Random(columns as u64);
    let mut left = columns;
    while left > 0 {
        let columns = [1, 3, 40, 128, 300, 1100][random.below(6)].min(left);
        left -= columns;
        let most_rows = [3, 20, 100, 4000 / columns.min(100)][random.below(4)];
        let rows = 1 + random.below(most_rows);
        let mut values = Array2::from_elem((rows, columns), T::zeroed());
        for mut column in values.columns_mut() {
            let kind = random.below(T::KINDS);
            column.iter_mut().for_each(|value| *value = T::random(&mut random, kind));
        }
        let ddof = [0.0, 1.0, 0.5][random.below(3)];
        let ddof = if rows == 1 { 0.0 } else { ddof };
        let exact: Vec<_> = values
            .columns()
            .into_iter()
            .map(|column| rational::moments(column.iter().map(|value| value.rational()), rows as u64, ddof))
            .collect();
        let expected = |of: fn(&rational::Expected) -> f64| exact.iter().map(of).collect::<Vec<_>>();
        let what = format!("{} {rows} x {columns}", std::any::type_name::<T>());
        let stream = |budget, threads| Stream::from(&values).budget(budget).threads(threads);
        check(&format!("sum {what}"), 0, &expected(|exact| exact.sum), &|b, t| stream(b, t).sum_axis0());
        check(&format!("mean {what}"), 0, &expected(|exact| exact.mean), &|b, t| stream(b, t).mean_axis0());
        check(&format!("var {what}"), 1, &expected(|exact| exact.variance), &|b, t| {
            stream(b, t).var_axis0(ddof)
        });
        check(&format!("std {what}"), 1, &expected(|exact| exact.deviation), &|b, t| {
            stream(b, t).std_axis0(ddof)
        });
        // Reductions of all elements to one number.
        let count = values.len() as u64;
        let all = rational::moments(values.iter().map(|value| value.rational()), count, 0.0);
        let one = |value: ndarray_mmap::Result<f64>| value.map(|value| Array1::from_elem(1, value));
        check(&format!("sum of all {what}"), 0, &[all.sum], &|b, t| one(stream(b, t).sum()));
        check(&format!("mean of all {what}"), 0, &[all.mean], &|b, t| one(stream(b, t).mean()));
        check(&format!("var of all {what}"), 1, &[all.variance], &|b, t| one(stream(b, t).var(0.0)));
        check(&format!("std of all {what}"), 1, &[all.deviation], &|b, t| one(stream(b, t).std(0.0)));
    }
}

#[test]
fn floats_of_any_size() {
    check_type::<f64>(columns_to_try() / 2);
    check_type::<f32>(columns_to_try() / 4);
    #[cfg(feature = "half")]
    check_type::<half::f16>(columns_to_try() / 40);
}

#[test]
fn integers_near_their_limits() {
    let columns = columns_to_try() / 50;
    check_type::<i8>(columns);
    check_type::<u8>(columns);
    check_type::<i16>(columns);
    check_type::<u16>(columns);
    check_type::<i32>(columns);
    check_type::<u32>(columns);
    check_type::<i64>(columns);
    check_type::<u64>(columns);
    check_type::<isize>(columns);
    check_type::<usize>(columns);
    check_type::<i128>(columns);
    check_type::<u128>(columns);
}
