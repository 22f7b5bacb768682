//! [`Natural`]: non-negative binary numbers of any size, for sums that must not be rounded.

use std::cmp::Ordering;

/// A non-negative number: the sum of `limbs[i]` times 2 to the power of `64 * (first + i)`.
///
/// The number of limbs depends on the distance between the highest and the lowest bit that were ever added. There are
/// at most 34 limbs for sums of `f64`, and at most 67 for sums of squares of `f64`.
#[derive(Clone, Debug, Default)]
pub(super) struct Natural {
    first: i32,
    limbs: Vec<u64>,
}

impl Natural {
    /// Sets the number to zero. The allocated memory stays for the next sum.
    pub(super) fn clear(&mut self) {
        self.limbs.clear();
    }

    pub(super) fn is_zero(&self) -> bool {
        self.limbs.iter().all(|&limb| limb == 0)
    }

    /// Adds `value` times 2 to the power of `exponent`.
    pub(super) fn add_scaled(&mut self, value: u128, exponent: i32) {
        let shift = exponent.rem_euclid(64);
        let (low, high) = (u128::from(value as u64) << shift, (value >> 64) << shift);
        // The lowest `shift` bits of `high` are zero, and `low >> 64` has no other bits, so the two values can be
        // combined by `|`.
        let middle = (low >> 64) as u64 | high as u64;
        self.add_limbs(exponent.div_euclid(64), &[low as u64, middle, (high >> 64) as u64]);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.add_limbs(other.first, &other.limbs);
    }

    fn add_limbs(&mut self, first: i32, limbs: &[u64]) {
        let Some(lowest) = limbs.iter().position(|&limb| limb != 0) else { return };
        let end = limbs.iter().rposition(|&limb| limb != 0).map_or(0, |highest| highest + 1);
        let (first, limbs) = (first + lowest as i32, &limbs[lowest..end]);
        let at = self.make_room(first, limbs.len());
        let mut carry = false;
        for (limb, &more) in self.limbs[at..].iter_mut().zip(limbs) {
            let (sum, over) = limb.overflowing_add(more);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, over || over_again);
        }
        let mut above = self.limbs[at + limbs.len()..].iter_mut();
        while carry {
            match above.next() {
                Some(limb) => (*limb, carry) = limb.overflowing_add(1),
                None => {
                    self.limbs.push(1);
                    return;
                }
            }
        }
    }

    /// Extends the number with limbs that are zero, until the limbs `first` to `first + count - 1` are stored. Returns
    /// the index of limb `first` in `limbs`.
    fn make_room(&mut self, first: i32, count: usize) -> usize {
        if self.limbs.is_empty() {
            self.first = first;
        }
        let missing = usize::try_from(self.first - first).unwrap_or(0);
        if missing > 0 {
            self.limbs.splice(..0, std::iter::repeat_n(0, missing));
            self.first = first;
        }
        let at = (first - self.first) as usize; // not negative, because `self.first` is at most `first` now
        self.limbs.resize(self.limbs.len().max(at + count), 0);
        at
    }

    /// Returns the limb with this index, or zero if the limb is not stored.
    fn limb(&self, index: i32) -> u64 {
        usize::try_from(index - self.first).ok().and_then(|at| self.limbs.get(at)).copied().unwrap_or(0)
    }

    fn end(&self) -> i32 {
        self.first + self.limbs.len() as i32
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let limbs =
            |number: &Self| if number.limbs.is_empty() { None } else { Some((number.first, number.end())) };
        let bounds = [limbs(self), limbs(other)].into_iter().flatten();
        let Some((first, end)) = bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
            return Ordering::Equal;
        };
        let different = (first..end).rev().find(|&index| self.limb(index) != other.limb(index));
        different.map_or(Ordering::Equal, |index| self.limb(index).cmp(&other.limb(index)))
    }

    /// Subtracts a number that is not larger than this one.
    pub(super) fn subtract(&mut self, smaller: &Self) {
        debug_assert_ne!(self.compare(smaller), Ordering::Less);
        let Some(lowest) = smaller.limbs.iter().position(|&limb| limb != 0) else { return };
        let (first, limbs) = (smaller.first + lowest as i32, &smaller.limbs[lowest..]);
        let at = self.make_room(first, limbs.len());
        let mut borrow = false;
        let less = limbs.iter().copied().chain(std::iter::repeat(0));
        for (limb, less) in self.limbs[at..].iter_mut().zip(less) {
            let (rest, under) = limb.overflowing_sub(less);
            let (rest, under_again) = rest.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (rest, under || under_again);
        }
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let mut product = vec![0; self.limbs.len() + other.limbs.len()];
        for (at, &factor) in self.limbs.iter().enumerate() {
            let mut carry = 0;
            for (place, &limb) in product[at..].iter_mut().zip(other.limbs.iter().chain(&[0])) {
                let sum = u128::from(factor) * u128::from(limb) + u128::from(*place) + carry;
                (*place, carry) = (sum as u64, sum >> 64);
            }
        }
        Self { first: self.first + other.first, limbs: product }
    }

    /// Divides by a number that is greater than zero. The result has at least 64 significant bits. Returns whether
    /// there is a remainder.
    pub(super) fn divide(&mut self, divisor: u64) -> bool {
        if let Some(top) = self.limbs.iter().rposition(|&limb| limb != 0) {
            self.limbs.truncate(top + 1);
            self.make_room(self.end() - 3.max(self.limbs.len() as i32), 0);
        }
        let mut rest = 0;
        for limb in self.limbs.iter_mut().rev() {
            if rest == 0 && *limb == 0 {
                continue;
            }
            let dividend = u128::from(rest) << 64 | u128::from(*limb);
            *limb = (dividend / u128::from(divisor)) as u64; // fits, because `rest` is below `divisor`
            rest = (dividend % u128::from(divisor)) as u64;
        }
        rest != 0
    }

    /// Returns the exponent of the highest bit, or `None` for zero.
    pub(super) fn exponent(&self) -> Option<i32> {
        let at = self.limbs.iter().rposition(|&limb| limb != 0)?;
        Some(64 * (self.first + at as i32) + self.limbs[at].ilog2() as i32)
    }

    /// Returns the nearest `f64` to the number times 2 to the power of `shift`, ties to even. If `has_more` is true,
    /// the exact number is slightly larger.
    pub(super) fn round(&self, shift: i32, has_more: bool) -> f64 {
        let Some(exponent) = self.exponent() else { return 0.0 };
        // The 64 highest bits, and whether any lower bit is set.
        let lowest = exponent - 63;
        let (index, offset) = (lowest.div_euclid(64), lowest.rem_euclid(64));
        let two = u128::from(self.limb(index + 1)) << 64 | u128::from(self.limb(index));
        let bits = (two >> offset) as u64;
        let below = two & ((1 << offset) - 1) != 0 || (self.first..index).any(|index| self.limb(index) != 0);
        let has_more = has_more || below;
        let exponent = exponent + shift;
        if exponent > f64::MAX_EXP - 1 {
            return f64::INFINITY;
        }
        // Subnormal numbers have fewer significant bits.
        let kept = (exponent + 1075).min(53);
        if kept < 0 {
            return 0.0;
        }
        let dropped = 64 - kept;
        let (kept_bits, rest) = (u128::from(bits) >> dropped, u128::from(bits) & ((1 << dropped) - 1));
        let half = 1_u128 << (dropped - 1);
        let up = rest > half || rest == half && (has_more || kept_bits % 2 == 1);
        let rounded = kept_bits as u64 + u64::from(up);
        // A carry out of the mantissa correctly increments the exponent. The largest exponent becomes infinity.
        f64::from_bits(rounded + ((exponent + 1022).max(0) as u64) * (1 << 52))
    }

    /// Returns the number as a `u128`, if it is an integer that fits `u128`.
    pub(super) fn to_u128(&self) -> Option<u128> {
        let fits = (self.first..self.end()).all(|index| (0..2).contains(&index) || self.limb(index) == 0);
        fits.then(|| u128::from(self.limb(1)) << 64 | u128::from(self.limb(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: u128, exponent: i32) -> Natural {
        let mut number = Natural::default();
        number.add_scaled(value, exponent);
        number
    }

    #[test]
    fn integers_that_fit_are_returned() {
        for value in [0.0, 1.0, 0.1, 5e-324, 3e-310, f64::MIN_POSITIVE, 1e300, f64::MAX] {
            let bits = value.to_bits();
            let exponent = ((bits >> 52) as i32).max(1);
            let mantissa = (bits & ((1 << 52) - 1)) | if bits >> 52 == 0 { 0 } else { 1 << 52 };
            assert_eq!(of(u128::from(mantissa), exponent - 1075).round(0, false), value);
        }
        assert_eq!(of(1, 1024).round(0, false), f64::INFINITY);
        assert_eq!(of(1, 1024).round(-1, false), 2.0_f64.powi(1023));
        assert_eq!(of((1 << 54) - 1, 970).round(0, false), f64::INFINITY);
    }

    #[test]
    fn ties_are_rounded_to_even_and_more_than_a_tie_is_rounded_up() {
        for exponent in [-200, -64, -1, 0, 1, 63, 300] {
            let scale = 2.0_f64.powi(exponent);
            let odd = (1_u128 << 52) + 1;
            assert_eq!(of(odd * 2 + 1, exponent).round(0, false), (odd + 1) as f64 * 2.0 * scale);
            assert_eq!(of(odd * 2 - 1, exponent).round(0, false), (odd - 1) as f64 * 2.0 * scale);
            assert_eq!(of(odd * 2 - 1, exponent).round(0, true), odd as f64 * 2.0 * scale);
            let mut more = of(odd * 2 - 1, exponent);
            more.add_scaled(1, exponent - 500);
            assert_eq!(more.round(0, false), odd as f64 * 2.0 * scale);
        }
        assert_eq!(of(1, -1075).round(0, false), 0.0);
        assert_eq!(of(1, -1075).round(0, true), 5e-324);
        assert_eq!(of(3, -1075).round(0, false), 1e-323);
        assert_eq!(of(1, -1076).round(0, true), 0.0);
    }

    #[test]
    fn arithmetic_equals_that_of_integers() {
        let values = [0, 1, 3, u64::MAX as u128, 1 << 64, (1 << 90) + 12_345, u128::MAX >> 2];
        for a in values {
            for b in values {
                let (x, y) = (of(a, 0), of(b, 0));
                let mut sum = x.clone();
                sum.add(&y);
                assert_eq!(sum.to_u128(), Some(a + b));
                sum.subtract(&y);
                assert_eq!(sum.to_u128(), Some(a));
                assert_eq!(x.compare(&y), a.cmp(&b));
                if let Some(product) = a.checked_mul(b) {
                    assert_eq!(x.times(&y).to_u128(), Some(product));
                }
                if let Some(divisor) = u64::try_from(b).ok().filter(|&b| b > 0) {
                    let mut quotient = x.clone();
                    let has_rest = quotient.divide(divisor);
                    assert_eq!(quotient.limb(0), (a / b) as u64);
                    assert_eq!(quotient.limb(1), ((a / b) >> 64) as u64);
                    let rest = (quotient.first..0).fold(a % b, |rest, _| (rest << 64) % b);
                    assert_eq!(has_rest, rest != 0, "{a} / {b}");
                }
            }
        }
    }
}
