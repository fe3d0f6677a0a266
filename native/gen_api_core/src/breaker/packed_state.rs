//! The state of a breaker in one word.
//!
//! ```text
//!  63                            18 17          2 1   0
//! | time                           | generation   | tag |
//! ```
//!
//! The generation changes with every change of the tag and every new probe. A time is in units of 2^18 ns,
//! 262 µs, which is all of [`Nanos`] in 46 bits; it is rounded up, so no cool-down is too short.

use crate::clock::Nanos;

const UNIT_BITS: u32 = 18;
const VALUE_SHIFT: u32 = 18;
const GENERATION_SHIFT: u32 = 2;
const MAX_VALUE: u64 = u64::MAX >> VALUE_SHIFT;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    Open { until: PackedTime },
    HalfOpen { expires: PackedTime },
}

/// A time, as far as a packed state can hold it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct PackedTime(u64);

impl PackedTime {
    /// `now + wait`, rounded up.
    pub(super) fn after(now: Nanos, wait: Nanos) -> Self {
        let Nanos(end) = now.saturating_add(wait);
        // Rounded up, the last unit would not fit.
        Self(end.div_ceil(1 << UNIT_BITS).min(MAX_VALUE))
    }

    /// A time that does not come.
    pub(super) const NEVER: Self = Self(MAX_VALUE);

    /// A time that has come.
    pub(super) fn reached(now: Nanos) -> Self {
        Self(now.0 >> UNIT_BITS)
    }

    /// How long until then, or zero.
    pub(super) fn left(self, now: Nanos) -> Nanos {
        // A time that did not fit never comes.
        let end = if self.0 == MAX_VALUE {
            Nanos::MAX
        } else {
            Nanos(self.0 << UNIT_BITS)
        };
        end.saturating_sub(now)
    }

    pub(super) fn has_come(self, now: Nanos) -> bool {
        self.left(now) == Nanos::ZERO
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct PackedState {
    pub(super) generation: u16,
    pub(super) phase: Phase,
}

impl PackedState {
    pub(super) const INITIAL: u64 = 0;

    /// The same period.
    pub(super) fn with(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }

    /// The next period.
    pub(super) fn next(self, phase: Phase) -> Self {
        Self {
            generation: self.generation.wrapping_add(1),
            phase,
        }
    }

    #[inline]
    pub(super) fn pack(self) -> u64 {
        let (tag, value) = match self.phase {
            Phase::Closed => (0, 0),
            Phase::Open { until } => (1, until.0),
            Phase::HalfOpen { expires } => (2, expires.0),
        };
        value << VALUE_SHIFT | u64::from(self.generation) << GENERATION_SHIFT | tag
    }

    #[inline]
    pub(super) fn unpack(packed: u64) -> Self {
        let value = packed >> VALUE_SHIFT;
        let phase = match packed & 3 {
            0 => Phase::Closed,
            1 => Phase::Open {
                until: PackedTime(value),
            },
            _ => Phase::HalfOpen {
                expires: PackedTime(value),
            },
        };
        Self {
            generation: (packed >> GENERATION_SHIFT) as u16,
            phase,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PackedState, PackedTime, Phase};
    use crate::clock::Nanos;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_word_comes_back_as_it_was(
            generation: u16, kind in 0..3, now: u64, wait: u64,
        ) {
            let time = PackedTime::after(Nanos(now), Nanos(wait));
            let phase = match kind {
                0 => Phase::Closed,
                1 => Phase::Open { until: time },
                _ => Phase::HalfOpen { expires: time },
            };
            let state = PackedState { generation, phase };
            prop_assert_eq!(PackedState::unpack(state.pack()), state);
        }

        #[test]
        fn a_time_is_never_too_early_and_hardly_too_late(now in 0..u64::MAX / 4, wait in 0..u64::MAX / 4) {
            let time = PackedTime::after(Nanos(now), Nanos(wait));
            let left = time.left(Nanos(now)).0;
            prop_assert!(left >= wait && left - wait < 1 << 18);
            prop_assert!(time.has_come(Nanos(now + left)));
            prop_assert!(left == 0 || !time.has_come(Nanos(now + left - 1)));
        }
    }

    #[test]
    fn a_time_beyond_all_time_does_not_come() {
        assert!(!PackedTime::after(Nanos(5), Nanos::MAX).has_come(Nanos(u64::MAX - 1)));
    }
}
