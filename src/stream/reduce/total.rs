//! [`Total`]: the exact sum of one column, and the statistics that are computed from it with one rounding.

use super::natural::Natural;
use std::cmp::Ordering;

/// The exact value of a number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Exact {
    /// `magnitude` times 2 to the power of `exponent`, with a sign.
    Finite { is_negative: bool, magnitude: u128, exponent: i32 },
    /// Plus or minus infinity.
    Infinite { is_negative: bool },
    /// Not a number.
    Nan,
}

impl From<f64> for Exact {
    fn from(value: f64) -> Self {
        let (bits, is_negative) = (value.to_bits(), value.is_sign_negative());
        let (fraction, exponent) = (bits & ((1 << 52) - 1), (bits >> 52 & 0x7ff) as i32);
        match exponent {
            0x7ff if fraction == 0 => Self::Infinite { is_negative },
            0x7ff => Self::Nan,
            0 => Self::Finite { is_negative, magnitude: fraction.into(), exponent: -1074 },
            _ => Self::Finite {
                is_negative,
                magnitude: (fraction | 1 << 52).into(),
                exponent: exponent - 1075,
            },
        }
    }
}

/// The exact sum of any numbers, in any order.
#[derive(Debug, Default)]
pub(super) struct Total {
    positive: Natural,
    negative: Natural,
    has_infinity: bool,
    has_negative_infinity: bool,
    has_nan: bool,
}

impl Total {
    /// Sets the total to zero. The allocated memory stays for the next sum.
    pub(super) fn clear(&mut self) {
        self.positive.clear();
        self.negative.clear();
        (self.has_infinity, self.has_negative_infinity, self.has_nan) = (false, false, false);
    }

    pub(super) fn add(&mut self, value: impl Into<Exact>) {
        match value.into() {
            Exact::Finite { is_negative, magnitude, exponent } => {
                let side = if is_negative { &mut self.negative } else { &mut self.positive };
                side.add_scaled(magnitude, exponent);
            }
            Exact::Infinite { is_negative: true } => self.has_negative_infinity = true,
            Exact::Infinite { is_negative: false } => self.has_infinity = true,
            Exact::Nan => self.has_nan = true,
        }
    }

    pub(super) fn add_square(&mut self, value: impl Into<Exact>) {
        match value.into() {
            Exact::Finite { magnitude, exponent, .. } => {
                // The value is (high * 2^64 + low)^2. The double of a product can need more than 128 bits, so the
                // product is added twice.
                let (low, high) = (u128::from(magnitude as u64), magnitude >> 64);
                self.positive.add_scaled(low * low, 2 * exponent);
                self.positive.add_scaled(low * high, 2 * exponent + 64);
                self.positive.add_scaled(low * high, 2 * exponent + 64);
                self.positive.add_scaled(high * high, 2 * exponent + 128);
            }
            Exact::Infinite { .. } => self.has_infinity = true,
            Exact::Nan => self.has_nan = true,
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.positive.add(&other.positive);
        self.negative.add(&other.negative);
        self.has_infinity |= other.has_infinity;
        self.has_negative_infinity |= other.has_negative_infinity;
        self.has_nan |= other.has_nan;
    }

    /// Returns the sum if it is infinite or NaN.
    fn not_finite(&self) -> Option<f64> {
        match (self.has_nan, self.has_infinity, self.has_negative_infinity) {
            (true, ..) | (_, true, true) => Some(f64::NAN),
            (_, true, _) => Some(f64::INFINITY),
            (_, _, true) => Some(f64::NEG_INFINITY),
            _ => None,
        }
    }

    /// Subtracts the smaller of `positive` and `negative` from the larger one. Returns whether the total is negative,
    /// and its magnitude.
    fn sign_and_magnitude(&mut self) -> (bool, &mut Natural) {
        let Self { positive, negative, .. } = self;
        if positive.compare(negative) == Ordering::Less {
            negative.subtract(positive);
            positive.clear();
            (true, negative)
        } else {
            positive.subtract(negative);
            negative.clear();
            (false, positive)
        }
    }

    /// Returns the sum, correctly rounded.
    pub(super) fn sum(&mut self) -> f64 {
        self.not_finite().unwrap_or_else(|| {
            let (is_negative, magnitude) = self.sign_and_magnitude();
            with_sign(is_negative, magnitude.round(0, false))
        })
    }

    /// Returns the sum as an `i128`, or `None` if the sum is not an integer or does not fit `i128`.
    pub(super) fn integer(&mut self) -> Option<i128> {
        let (is_negative, magnitude) = self.sign_and_magnitude();
        let magnitude = magnitude.to_u128()?;
        match is_negative {
            true => 0_i128.checked_sub_unsigned(magnitude),
            false => i128::try_from(magnitude).ok(),
        }
    }

    /// Returns the mean of `count` numbers, correctly rounded. Changes the total.
    pub(super) fn mean(&mut self, count: u64) -> f64 {
        if count == 0 {
            return f64::NAN;
        }
        self.not_finite().unwrap_or_else(|| {
            let (is_negative, magnitude) = self.sign_and_magnitude();
            let has_rest = magnitude.divide(count);
            with_sign(is_negative, magnitude.round(0, has_rest))
        })
    }
}

fn with_sign(is_negative: bool, magnitude: f64) -> f64 {
    if is_negative { -magnitude } else { magnitude }
}

/// Which statistic is computed: the variance, or the standard deviation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
    Variance,
    Deviation,
}

/// Returns the spread of `count` numbers, computed from their sum and the sum of their squares:
/// `(n Sxx - Sx^2) / (n (n - ddof))`. The exact quotient is rounded once, or twice if 64 bits cannot hold both `n` and the
/// binary digits of `ddof`. Changes the sums.
pub(super) fn spread(sum: &mut Total, squares: &mut Total, count: u64, ddof: f64, kind: Spread) -> f64 {
    if count == 0 || sum.not_finite().is_some() || squares.not_finite().is_some() {
        return f64::NAN;
    }
    let ((_, sum), (_, squares)) = (sum.sign_and_magnitude(), squares.sign_and_magnitude());
    let mut rest = Natural::default();
    rest.add_scaled(count.into(), 0);
    let mut rest = rest.times(squares);
    rest.subtract(&sum.times(sum)); // not negative, by the Cauchy-Schwarz inequality
    let (degrees, scale) = degrees_of_freedom(count, ddof);
    if degrees == 0 {
        return if rest.is_zero() { f64::NAN } else { f64::INFINITY };
    }
    let has_rest = rest.divide(count);
    let has_rest = rest.divide(degrees) || has_rest;
    let Some(exponent) = rest.exponent() else { return 0.0 };
    match kind {
        Spread::Variance => rest.round(scale, has_rest),
        Spread::Deviation => {
            // Computes the root of a number from 1 to 4, and scales the root by a power of two. The root is multiplied
            // in two steps, because a single factor (the power of two) could underflow.
            let half = (exponent + scale).div_euclid(2);
            let root = rest.round(scale - 2 * half, has_rest).sqrt();
            root * 2.0_f64.powi(half / 2) * 2.0_f64.powi(half - half / 2)
        }
    }
}

/// Returns `count - ddof` as a divisor, and the power of two by which the quotient must be multiplied.
fn degrees_of_freedom(count: u64, ddof: f64) -> (u64, i32) {
    let shift = if ddof.fract() == 0.0 { 0 } else { count.leading_zeros() };
    let ddof = (ddof * 2.0_f64.powi(shift as i32)) as u64; // fits 64 bits, because `ddof` is at most `count`
    ((count << shift).saturating_sub(ddof), shift as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(values: &[f64]) -> Total {
        let mut total = Total::default();
        values.iter().for_each(|&value| total.add(value));
        total
    }

    #[test]
    fn sums_and_means_are_rounded_once() {
        assert_eq!(total(&[]).sum(), 0.0);
        assert_eq!(total(&[1e100, 1.0, -1e100, 1e-300]).sum(), 1.0);
        assert_eq!(total(&[1.0, 2.0_f64.powi(-53), 5e-324]).sum(), 1.0 + f64::EPSILON);
        assert_eq!(total(&[f64::MAX, f64::MAX, -f64::MAX]).sum(), f64::MAX);
        assert_eq!(total(&[f64::MAX, f64::MAX]).sum(), f64::INFINITY);
        assert_eq!(total(&[f64::MAX, f64::MAX]).mean(2), f64::MAX);
        assert_eq!(total(&[-5e-324, -5e-324, -5e-324]).mean(2), -1e-323);
        assert_eq!(total(&[0.1; 10]).mean(10), 0.1);
        assert_eq!(total(&[1.0]).mean(3), 1.0 / 3.0);
        assert!(total(&[f64::INFINITY, f64::NEG_INFINITY]).sum().is_nan());
        assert_eq!(total(&[f64::NEG_INFINITY, 1.0]).mean(2), f64::NEG_INFINITY);
        assert!(total(&[f64::NAN, f64::INFINITY]).mean(2).is_nan());
        assert_eq!(total(&[-3.0, 1.0]).integer(), Some(-2));
        assert_eq!(total(&[2.0_f64.powi(127), -1.0]).integer(), Some(i128::MAX));
        assert_eq!(total(&[-(2.0_f64.powi(127))]).integer(), Some(i128::MIN));
        assert_eq!(total(&[2.0_f64.powi(127)]).integer(), None);
    }

    #[test]
    fn variances_neither_cancel_nor_overflow() {
        let of = |values: &[f64], ddof: f64, kind| {
            let mut squares = Total::default();
            values.iter().for_each(|&value| squares.add_square(value));
            spread(&mut total(values), &mut squares, values.len() as u64, ddof, kind)
        };
        for scale in [0, 300, 500, -300, -500, -530, -1074].map(|exponent| 2.0_f64.powi(exponent)) {
            let values = [scale, 2.0 * scale, 3.0 * scale, 4.0 * scale];
            assert_eq!(of(&values, 0.0, Spread::Variance), 1.25 * scale * scale);
        }
        assert_eq!(of(&[1e200, -1e200], 0.0, Spread::Deviation), 1e200);
        assert_eq!(of(&[1e200, -1e200], 0.0, Spread::Variance), f64::INFINITY);
        assert_eq!(of(&[5e-324, -5e-324], 0.0, Spread::Deviation), 5e-324);
        assert_eq!(of(&[1e15, 1e15 + 1.0, 1e15 + 2.0], 1.0, Spread::Variance), 1.0);
        assert_eq!(of(&[0.0, 1.0, 2.0], 0.5, Spread::Variance), 0.8);
        assert_eq!(of(&[0.0, 1.0], 2.0, Spread::Variance), f64::INFINITY);
        assert!(of(&[1.0, 1.0], 2.0, Spread::Variance).is_nan());
        assert!(of(&[f64::INFINITY, 1.0], 0.0, Spread::Variance).is_nan());
        assert_eq!(of(&[7.0, 7.0], 0.0, Spread::Deviation), 0.0);
    }
}
