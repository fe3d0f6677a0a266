//! Numeric bounds, exact between integers of any size and floats.

use crate::value::{Big, Value, View};
use std::cmp::Ordering;

/// An inclusive bound.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// An integer.
    Int(i64),
    /// An integer of more than 64 bits.
    Big(Big),
    /// A float.
    Float(f64),
}

/// Inclusive bounds of a number.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Range {
    /// The smallest number accepted.
    pub min: Option<Bound>,
    /// The largest number accepted.
    pub max: Option<Bound>,
}

impl Range {
    /// Whether neither bound is set.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }

    /// The bound that `value`, a number, is outside of, and on which side.
    pub fn violated<'a, V: Value<'a>>(&self, value: V) -> Option<(Ordering, &Bound)> {
        if let Some(min) = &self.min {
            if compare(value, min) == Ordering::Less {
                return Some((Ordering::Less, min));
            }
        }
        if let Some(max) = &self.max {
            if compare(value, max) == Ordering::Greater {
                return Some((Ordering::Greater, max));
            }
        }
        None
    }
}

fn compare<'a, V: Value<'a>>(value: V, bound: &Bound) -> Ordering {
    match (value.view(), bound) {
        (View::Int(a), Bound::Int(b)) => a.cmp(b),
        (View::Float(a), Bound::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (View::Int(a), Bound::Float(b)) => int_vs_float(a, *b),
        (View::Float(a), Bound::Int(b)) => int_vs_float(*b, a).reverse(),
        (View::Int(_), Bound::Big(b)) => big_vs_int(b).reverse(),
        (View::Float(a), Bound::Big(b)) => big_vs_float(b, a).reverse(),
        (_, bound) => value
            .big()
            .map_or(Ordering::Equal, |a| big_vs_bound(&a, bound)),
    }
}

fn big_vs_bound(a: &Big, bound: &Bound) -> Ordering {
    match bound {
        Bound::Int(_) => big_vs_int(a),
        Bound::Big(b) => a.cmp(b),
        Bound::Float(b) => big_vs_float(a, *b),
    }
}

/// Beyond every integer of 64 bits, on the side of its sign.
fn big_vs_int(big: &Big) -> Ordering {
    if big.negative {
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

/// Exact: a float that is as large has no fraction, so it is an integer as well.
fn big_vs_float(big: &Big, float: f64) -> Ordering {
    if float.abs() < 9_223_372_036_854_775_808.0 {
        big_vs_int(big)
    } else {
        big.cmp(&whole(float))
    }
}

/// The integer that a float of at least 2^63, or at most -2^63, is.
fn whole(float: f64) -> Big {
    const FRACTION: u32 = 52;
    let bits = float.to_bits();
    let mantissa = bits & ((1 << FRACTION) - 1) | 1 << FRACTION;
    let exponent = ((bits >> FRACTION) & 0x7ff).saturating_sub(1_023 + u64::from(FRACTION));
    let mut magnitude = vec![0; usize::try_from(exponent / 8).unwrap_or(0)];
    magnitude.extend((mantissa << (exponent % 8)).to_le_bytes());
    while magnitude.last() == Some(&0) {
        magnitude.pop();
    }
    Big {
        negative: float < 0.0,
        magnitude: magnitude.into(),
    }
}

/// Exact, unlike a conversion of the integer: 2^53 + 1 is not 2^53.
fn int_vs_float(a: i64, b: f64) -> Ordering {
    // 2^63 is a float; every float at or beyond it is beyond every i64.
    if b >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if b < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    let whole = b.trunc();
    #[allow(clippy::cast_possible_truncation)]
    let order = a.cmp(&(whole as i64));
    order.then_with(|| whole.partial_cmp(&b).unwrap_or(Ordering::Equal))
}

/// The float nearest to a large integer; ties go to the even one. `None` when it is too
/// large to be a float.
pub(super) fn big_to_f64(big: &Big) -> Option<f64> {
    let magnitude = &big.magnitude;
    // 1024 bits are the most that a float's exponent covers.
    if magnitude.len() > 128 {
        return None;
    }
    let split = magnitude.len().saturating_sub(8);
    let (low, high) = magnitude.split_at_checked(split)?;
    let mut top = high
        .iter()
        .rev()
        .fold(0u64, |acc, byte| (acc << 8) | u64::from(*byte));
    // The top 64 bits decide the rounding but for a tie, which any lower bit breaks; the
    // lowest of the 64 is far below the 53 that survive, so it can carry that news.
    if low.iter().any(|byte| *byte != 0) {
        top |= 1;
    }
    let scale = i32::try_from(split * 8).ok()?;
    #[allow(clippy::cast_precision_loss)]
    let value = (top as f64) * 2f64.powi(scale);
    value
        .is_finite()
        .then_some(if big.negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_and_a_float_compare_exactly() {
        assert_eq!(
            int_vs_float((1 << 53) + 1, 9_007_199_254_740_992.0),
            Ordering::Greater
        );
        assert_eq!(int_vs_float(5, 5.5), Ordering::Less);
        assert_eq!(int_vs_float(-5, -5.5), Ordering::Greater);
        assert_eq!(int_vs_float(5, 5.0), Ordering::Equal);
        assert_eq!(int_vs_float(i64::MAX, 9.3e18), Ordering::Less);
        assert_eq!(int_vs_float(i64::MIN, -9.3e18), Ordering::Greater);
        assert_eq!(
            int_vs_float(i64::MIN, -9_223_372_036_854_775_808.0),
            Ordering::Equal
        );
        assert_eq!(int_vs_float(0, -0.0), Ordering::Equal);
    }

    fn big(value: i128) -> Big {
        let bytes = value.unsigned_abs().to_le_bytes();
        let significant = bytes.iter().rposition(|b| *b != 0).unwrap();
        Big {
            negative: value < 0,
            magnitude: bytes[..=significant].into(),
        }
    }

    #[test]
    fn large_integers_compare_by_sign_size_and_value() {
        let ascending = [
            i128::MIN,
            -(1 << 100) - 1,
            -(1 << 100),
            -(1 << 64),
            i128::from(i64::MIN) - 1,
            1 << 63,
            (1 << 64) - 1,
            1 << 64,
            (1 << 64) + 1,
            (1 << 72) + 255,
            1 << 100,
            (1 << 100) + 1,
            i128::MAX,
        ];
        for (n, a) in ascending.iter().enumerate() {
            for (m, b) in ascending.iter().enumerate() {
                assert_eq!(big(*a).cmp(&big(*b)), n.cmp(&m), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_large_integer_and_a_float_compare_exactly() {
        let two_100 = (1u128 << 100) as f64;
        for (a, b, order) in [
            (1 << 100, two_100, Ordering::Equal),
            ((1 << 100) - 1, two_100, Ordering::Less),
            ((1 << 100) + 1, two_100, Ordering::Greater),
            (-(1 << 100), -two_100, Ordering::Equal),
            (-(1 << 100) - 1, -two_100, Ordering::Less),
            (-(1 << 100) + 1, -two_100, Ordering::Greater),
            (-(1 << 100), two_100, Ordering::Less),
            (1 << 63, 9_223_372_036_854_775_808.0, Ordering::Equal),
            (
                (1 << 63) + 1,
                9_223_372_036_854_775_808.0,
                Ordering::Greater,
            ),
            (1 << 63, 5.5, Ordering::Greater),
            (-(1 << 64), -5.5, Ordering::Less),
            (i128::MAX, f64::MAX, Ordering::Less),
        ] {
            assert_eq!(big_vs_float(&big(a), b), order, "{a} {b}");
        }
    }

    fn to_f64(negative: bool, magnitude: &[u8]) -> Option<f64> {
        let magnitude = magnitude.into();
        big_to_f64(&Big {
            negative,
            magnitude,
        })
    }

    #[test]
    fn a_large_integer_becomes_the_nearest_float() {
        for value in [
            1u128 << 64,
            u128::MAX,
            (1 << 100) + (1 << 47),
            (1 << 100) + (1 << 47) + 1,
            (1 << 100) + (3 << 47),
            0x8000_0000_0000_0400,
            0x8000_0000_0000_0401,
        ] {
            let bytes = value.to_le_bytes();
            let significant = bytes.iter().rposition(|b| *b != 0).unwrap();
            let bytes = &bytes[..=significant];
            assert_eq!(to_f64(false, bytes), Some(value as f64), "{value}");
            assert_eq!(to_f64(true, bytes), Some(-(value as f64)), "{value}");
        }
    }

    #[test]
    fn an_integer_beyond_every_float_is_none() {
        assert_eq!(to_f64(false, &[0xff; 128]), None);
        assert_eq!(to_f64(false, &[1; 129]), None);
        let mut largest = [0u8; 128];
        largest[127] = 0xff;
        assert!(to_f64(false, &largest).is_some());
    }
}
