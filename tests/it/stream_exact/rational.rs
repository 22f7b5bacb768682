//! Exact sums, means, variances and standard deviations. The calculations use integers of a fixed, large size and share
//! no code with the crate.

/// A number `magnitude * 2^exponent` with a sign.
#[derive(Clone, Copy, Debug)]
pub struct Rational {
    is_negative: bool,
    magnitude: u128,
    exponent: i32,
}

impl Rational {
    pub fn integer(is_negative: bool, magnitude: u128) -> Self {
        Self { is_negative, magnitude, exponent: 0 }
    }
}

impl From<f64> for Rational {
    fn from(value: f64) -> Self {
        assert!(value.is_finite());
        let (bits, is_negative) = (value.abs().to_bits(), value < 0.0);
        match bits >> 52 {
            0 => Self { is_negative, magnitude: bits.into(), exponent: -1074 },
            exponent => Self {
                is_negative,
                magnitude: (bits % (1 << 52) + (1 << 52)).into(),
                exponent: exponent as i32 - 1075,
            },
        }
    }
}

/// The number of 32-bit digits of an integer. The digits suffice for squares of `f64` and for all factors of the
/// squares.
const DIGITS: usize = 140;

/// The exponent of the lowest bit of a sum. The lowest bit of a square has twice this exponent.
const LOWEST: i32 = -1088;

/// An integer in two's complement. The lowest digit comes first.
#[derive(Clone, Copy)]
struct Wide([u32; DIGITS]);

impl Wide {
    const ZERO: Self = Self([0; DIGITS]);

    fn add(&mut self, other: &Self) {
        let mut carry = 0;
        for (digit, &more) in self.0.iter_mut().zip(&other.0) {
            let sum = u64::from(*digit) + u64::from(more) + carry;
            (*digit, carry) = (sum as u32, sum >> 32);
        }
    }

    fn negated(mut self) -> Self {
        self.0.iter_mut().for_each(|digit| *digit = !*digit);
        self.add(&Self::of(1, 0));
        self
    }

    fn is_negative(&self) -> bool {
        self.0[DIGITS - 1] >> 31 == 1
    }

    /// Returns `value * 2^shift`.
    fn of(value: u128, shift: i32) -> Self {
        let mut wide = Self::ZERO;
        let (at, offset) = (shift as usize / 32, shift as usize % 32);
        let mut carry = 0;
        for index in 0..4 {
            let digit = u64::from((value >> (32 * index)) as u32) << offset;
            wide.0[at + index] = digit as u32 | carry;
            carry = (digit >> 32) as u32;
        }
        wide.0[at + 4] = carry;
        wide
    }

    /// Returns the product of two numbers. Both numbers must not be negative.
    fn times(&self, other: &Self) -> Self {
        let len = |digits: &[u32]| digits.iter().rposition(|&digit| digit != 0).map_or(0, |last| last + 1);
        let mut product = Self::ZERO;
        for (at, &factor) in self.0[..len(&self.0)].iter().enumerate() {
            let mut carry = 0;
            let others = other.0[..len(&other.0)].iter().chain(&[0]);
            for (place, &digit) in product.0[at..].iter_mut().zip(others) {
                let sum = u64::from(factor) * u64::from(digit) + u64::from(*place) + carry;
                (*place, carry) = (sum as u32, sum >> 32);
            }
        }
        product
    }
}

/// The quotient of two non-negative integers, with 128 bits after the binary point.
struct Quotient {
    digits: Vec<u32>,
    /// Whether the division left a remainder.
    has_rest: bool,
    /// The exponent of the lowest bit of the quotient.
    lowest: i32,
}

impl Quotient {
    fn new(dividend: &Wide, divisor: u128, lowest: i32) -> Self {
        assert!(divisor < 1 << 96);
        let mut digits = [&[0; 4][..], &dividend.0].concat();
        let mut rest = 0;
        for digit in digits.iter_mut().rev() {
            let part = rest << 32 | u128::from(*digit);
            (*digit, rest) = ((part / divisor) as u32, part % divisor);
        }
        Self { digits, has_rest: rest > 0, lowest: lowest - 128 }
    }

    fn bit(&self, index: i32) -> bool {
        index >= 0 && self.digits[index as usize / 32] >> (index % 32) & 1 == 1
    }

    fn top(&self) -> Option<i32> {
        (0..self.digits.len() as i32 * 32).rev().find(|&index| self.bit(index))
    }

    /// Returns `count` bits, from bit `top` downwards.
    fn bits(&self, top: i32, count: i32) -> u128 {
        (0..count).fold(0, |bits, index| bits << 1 | u128::from(self.bit(top - index)))
    }

    fn any_below(&self, end: i32) -> bool {
        self.has_rest || (0..end).any(|index| self.bit(index))
    }

    /// Returns the quotient rounded to the nearest `f64`, ties to even.
    fn round(&self) -> f64 {
        let Some(top) = self.top() else { return 0.0 };
        // The last bit of a subnormal number has the value 2^-1074.
        let last = (top - 52).max(-1074 - self.lowest);
        let kept = self.bits(top, top - last + 1);
        let up = self.bit(last - 1) && (self.any_below(last - 1) || kept % 2 == 1);
        scaled((kept + u128::from(up)) as f64, last + self.lowest)
    }

    /// Returns the square root of the quotient, rounded to the nearest `f64`.
    fn root(&self) -> f64 {
        let Some(top) = self.top() else { return 0.0 };
        // Only the highest 126 or 127 bits of the quotient are used. Of the two numbers, the code chooses the one that
        // makes the exponent even, because the root halves the exponent.
        let last = top - 126 + (top + self.lowest) % 2;
        let root = self.bits(top, top - last + 1).isqrt(); // 63 or 64 bits, more than the 53 bits of the result
        scaled(root as f64, (last + self.lowest) / 2)
    }
}

/// Returns `value * 2^exponent`. The function multiplies in several steps, because one power of two may be out of
/// range.
fn scaled(value: f64, exponent: i32) -> f64 {
    // The first step scales the value to about 1, so that only the last step can round.
    let near = 1 - 53;
    let value = value * 2.0_f64.powi(near);
    let exponent = exponent - near;
    value * 2.0_f64.powi(exponent / 2) * 2.0_f64.powi(exponent - exponent / 2)
}

/// The exact results, each rounded once to `f64`.
#[derive(Debug)]
pub struct Expected {
    pub sum: f64,
    pub mean: f64,
    pub variance: f64,
    pub deviation: f64,
}

/// Returns the expected results for `count` values. `ddof` is a multiple of one half.
pub fn moments(values: impl Iterator<Item = Rational>, count: u64, ddof: f64) -> Expected {
    let (mut sum, mut squares) = (Wide::ZERO, Wide::ZERO);
    for Rational { is_negative, magnitude, exponent } in values {
        let value = Wide::of(magnitude, exponent - LOWEST);
        sum.add(&if is_negative { value.negated() } else { value });
        let magnitude = Wide::of(magnitude, 0);
        let square = magnitude.times(&magnitude);
        squares.add(&square.times(&Wide::of(1, 2 * (exponent - LOWEST))));
    }
    let is_negative = sum.is_negative();
    let sum = if is_negative { sum.negated() } else { sum };
    let signed = |value: f64| if is_negative { -value } else { value };
    // The variance is (n Sxx - Sx^2) / (n (n - ddof)). The code doubles numerator and denominator, so that both are
    // integers.
    let mut distances = squares.times(&Wide::of((2 * count).into(), 0));
    distances.add(&sum.times(&sum).times(&Wide::of(2, 0)).negated());
    let degrees = u128::from(count) * u128::from(2 * count - (2.0 * ddof) as u64);
    let variance = Quotient::new(&distances, degrees, 2 * LOWEST);
    Expected {
        sum: signed(Quotient::new(&sum, 1, LOWEST).round()),
        mean: signed(Quotient::new(&sum, count.into(), LOWEST).round()),
        variance: variance.round(),
        deviation: variance.root(),
    }
}
