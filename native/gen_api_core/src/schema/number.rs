//! Numeric bounds, exact between integers of any size and floats.

use crate::value::{Big, Value, View};
use std::cmp::Ordering;

/// An inclusive bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
}

/// Inclusive bounds of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    pub fn violated<'a, V: Value<'a>>(&self, value: V) -> Option<(Ordering, Bound)> {
        if let Some(min) = self.min {
            if compare(value, min) == Ordering::Less {
                return Some((Ordering::Less, min));
            }
        }
        if let Some(max) = self.max {
            if compare(value, max) == Ordering::Greater {
                return Some((Ordering::Greater, max));
            }
        }
        None
    }
}

fn compare<'a, V: Value<'a>>(value: V, bound: Bound) -> Ordering {
    match (value.view(), bound) {
        (View::Int(a), Bound::Int(b)) => a.cmp(&b),
        (View::Float(a), Bound::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (View::Int(a), Bound::Float(b)) => int_vs_float(a, b),
        (View::Float(a), Bound::Int(b)) => int_vs_float(b, a).reverse(),
        (_, Bound::Int(b)) => value.cmp_int(b),
        (_, Bound::Float(b)) => value.cmp_float(b),
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
