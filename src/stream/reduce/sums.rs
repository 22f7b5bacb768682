//! [`Sums`]: exact sums of a strip of columns. Each addition returns whether the sums are still exact.

use super::strips::STRIP;

/// A value for each column of a strip.
pub(super) type Strip = [f64; STRIP];

/// The sums of a strip of columns. The exact sum of each column is the sum of `K` numbers.
///
/// Each addition is an error-free transformation (Knuth's two-sum, Dekker's product): it returns the rounded sum and
/// the rounding error, which is then added to the next of the `K` numbers (Shewchuk, 1997). If the addition to the last
/// of the `K` numbers has a rounding error, the sum of the column is no longer exact, and the method that adds returns
/// `false`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums<const K: usize>(pub(super) [Strip; K]);

/// Returns the rounded sum of two numbers, and the exact rounding error. If the sum overflows, the error is NaN.
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let added = sum - a;
    (sum, (a - (sum - added)) + (b - added))
}

/// Returns the rounded square of a number, and the rounding error.
#[inline(always)]
fn two_square(value: f64) -> (f64, f64) {
    const SPLIT: f64 = ((1 << 27) + 1) as f64;
    let square = value * value;
    let scaled = value * SPLIT;
    let high = scaled - (scaled - value);
    let low = value - high;
    (square, ((high * high - square) + 2.0 * (high * low)) + low * low)
}

/// Returns whether `two_square` is exact for a value with this square. This is so if no intermediate result overflows
/// or underflows.
#[inline(always)]
fn is_square_exact(value: f64, square: f64) -> bool {
    const LARGEST: f64 = f64::from_bits((1023 + 990) << 52);
    const SMALLEST: f64 = f64::from_bits((1023 - 960) << 52);
    (square < LARGEST) & ((square > SMALLEST) | (value == 0.0))
}

impl<const K: usize> Sums<K> {
    /// Adds a value to each column. Returns `false` if the sum is no longer exact.
    #[inline(always)]
    pub(super) fn add(&mut self, values: &Strip) -> bool {
        self.add_from(0, values)
    }

    /// Adds the square of a value to each column. Returns `false` if the sum is no longer exact.
    #[inline(always)]
    pub(super) fn add_squares(&mut self, values: &Strip) -> bool {
        let (mut squares, mut lost) = ([0.0; STRIP], [0.0; STRIP]);
        let mut is_inexact = false;
        for column in 0..STRIP {
            (squares[column], lost[column]) = two_square(values[column]);
            is_inexact |= !is_square_exact(values[column], squares[column]);
        }
        self.add_from(0, &squares) & self.add_from(1, &lost) & !is_inexact
    }

    /// Adds a value to each column, starting with number `first` of the column's `K` numbers. If `first` is not zero,
    /// the values must be small, for example rounding errors.
    #[inline(always)]
    fn add_from(&mut self, first: usize, values: &Strip) -> bool {
        let mut values = *values;
        for part in &mut self.0[first..] {
            for (sum, value) in part.iter_mut().zip(&mut values) {
                (*sum, *value) = two_sum(*sum, *value);
            }
        }
        let mut lost = 0;
        for value in values {
            lost |= value.to_bits() << 1; // ignores the sign of zero
        }
        lost == 0
    }

    /// Reduces each number to at most the rounding error of the number before it, so that the `K` numbers together hold
    /// as many digits as possible.
    #[inline(always)]
    pub(super) fn renormalize(&mut self) {
        for part in (1..K).rev() {
            for column in 0..STRIP {
                (self.0[part - 1][column], self.0[part][column]) =
                    two_sum(self.0[part - 1][column], self.0[part][column]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inexact_sums_are_reported() {
        let mut sums = Sums([[0.0; STRIP]; 2]);
        assert!(sums.add(&[1.0; STRIP]) && sums.add(&[2.0_f64.powi(-100); STRIP]));
        let before = sums;
        for (value, is_exact) in
            [(5e-324, false), (f64::NAN, false), (f64::INFINITY, false), (-0.0, true), (-1.0, true)]
        {
            let mut values = [0.0; STRIP];
            values[7] = value;
            assert_eq!(sums.add(&values), is_exact, "{value}");
            sums = before;
        }
        assert_eq!((sums.0[0][0], sums.0[1][0]), (1.0, 2.0_f64.powi(-100)));
        let mut sums = Sums([[f64::MAX; STRIP], [0.0; STRIP]]);
        assert!(!sums.add(&[f64::MAX; STRIP]), "overflow");
    }

    #[test]
    fn squares_are_exact_or_reported() {
        for (value, is_exact) in [
            (1.0 + f64::EPSILON, true),
            (0.0, true),
            (1e140, true),
            (1e150, false),
            (1e-140, true),
            (1e-150, false),
            (f64::INFINITY, false),
            (f64::NAN, false),
        ] {
            let mut sums = Sums([[0.0; STRIP]; 3]);
            assert_eq!(sums.add_squares(&[value; STRIP]), is_exact, "{value}");
            if is_exact {
                assert_eq!(sums.0[0][0], value * value);
                assert_eq!(sums.0[1][0], value.mul_add(value, -(value * value)));
            }
        }
    }
}
