const BITS: u32 = 56;
const MASK: u64 = (1 << BITS) - 1;

/// The time of one request, in seven bytes: the low bits of a time in nanoseconds.
///
/// They wrap after 2.28 years, so a stamp means something only together with a full time that is not much
/// later. A log keeps that of its last request and never reads a stamp that is older by more than a window.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp([u8; 7]);

/// Ages from here on are not told apart from younger ones.
pub(super) const RANGE: u64 = 1 << BITS;

impl Stamp {
    pub(super) fn new(time: u64) -> Self {
        let [a, b, c, d, e, f, g, _] = time.to_le_bytes();
        Self([a, b, c, d, e, f, g])
    }

    /// How long before `reference` this was.
    pub(super) fn age(self, reference: u64) -> u64 {
        let [a, b, c, d, e, f, g] = self.0;
        reference.wrapping_sub(u64::from_le_bytes([a, b, c, d, e, f, g, 0])) & MASK
    }
}

#[cfg(test)]
mod tests {
    use super::{Stamp, RANGE};

    #[test]
    fn an_age_is_exact_across_every_wrap() {
        for reference in [0, 5, RANGE - 1, RANGE, RANGE + 3, u64::MAX] {
            for age in [0, 1, 4, RANGE / 2, RANGE - 1] {
                if let Some(time) = reference.checked_sub(age) {
                    assert_eq!(Stamp::new(time).age(reference), age);
                }
            }
        }
    }
}
