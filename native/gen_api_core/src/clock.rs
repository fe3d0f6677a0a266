//! Time as a value.
//!
//! Nothing in this crate reads a clock. Whoever calls passes the time in, which is what makes expiry
//! testable without waiting.

/// A point in time or a length of time, in nanoseconds.
///
/// As a point it counts from an origin the caller chooses once; it has to come from a monotonic clock.
/// Arithmetic stops at zero and at [`Nanos::MAX`], so a clock that lags behind another thread's by a
/// moment reads as "no time has passed", never as an age of centuries.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The origin, or no time at all.
    pub const ZERO: Self = Self(0);

    /// Some 584 years.
    pub const MAX: Self = Self(u64::MAX);

    /// A point of a clock that may be negative, as the VM's monotonic time is; its order is what counts.
    #[must_use]
    pub const fn from_signed(time: i64) -> Self {
        Self(time.cast_unsigned() ^ (1 << 63))
    }

    /// `millis` milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// `secs` seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// `self + other`, at most [`Nanos::MAX`].
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// `self - other`, at least [`Nanos::ZERO`].
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

#[cfg(test)]
mod tests {
    use super::Nanos;

    #[test]
    fn signed_times_keep_their_order_and_their_distances() {
        let times = [i64::MIN, -5, -1, 0, 3, i64::MAX];
        for (a, b) in times.into_iter().zip(times.into_iter().skip(1)) {
            let (x, y) = (Nanos::from_signed(a), Nanos::from_signed(b));
            assert!(x < y);
            assert_eq!(y.saturating_sub(x).0, b.abs_diff(a));
        }
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        assert_eq!(Nanos(3).saturating_sub(Nanos(5)), Nanos::ZERO);
        assert_eq!(Nanos::MAX.saturating_add(Nanos(1)), Nanos::MAX);
        assert_eq!(Nanos::from_millis(u64::MAX), Nanos::MAX);
        assert_eq!(Nanos::from_secs(2), Nanos::from_millis(2_000));
    }
}
