use std::collections::VecDeque;

use crate::clock::Nanos;
use crate::sync::Mutex;

/// Calls looked at: those of the last 10 seconds, the latest of them.
const WINDOW: Nanos = Nanos::from_secs(10);
const MAX_CALLS: usize = 128;

/// How long the successful calls of one function took, lately.
#[derive(Debug, Default)]
pub struct Durations(Mutex<VecDeque<(Nanos, Nanos)>>);

impl Durations {
    /// A call took so long. Where calls end at the same moment one of them may be left out: it is a sample, and
    /// nobody waits for it.
    pub fn add(&self, took: Nanos, now: Nanos) {
        if let Some(mut latest) = self.0.try_lock() {
            if latest.len() >= MAX_CALLS {
                latest.pop_front();
            }
            latest.push_back((now, took));
        }
    }

    /// The median, or nothing when there was no such call.
    #[must_use]
    pub fn median(&self, now: Nanos) -> Option<Nanos> {
        let latest = self.0.lock();
        let recent = latest
            .iter()
            .filter(|(at, _)| now.saturating_sub(*at) < WINDOW);
        let mut took: Vec<_> = recent.map(|(_, took)| *took).collect();
        drop(latest);
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    }

    /// Memory held beyond its own, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.lock().capacity() * size_of::<(Nanos, Nanos)>()
    }

    pub(super) fn is_idle(&self, now: Nanos) -> bool {
        let latest = self.0.lock();
        latest
            .back()
            .is_none_or(|(at, _)| now.saturating_sub(*at) >= WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::{Durations, MAX_CALLS};
    use crate::clock::Nanos;

    #[test]
    fn the_median_is_that_of_the_last_ten_seconds() {
        let durations = Durations::default();
        let secs = Nanos::from_secs;
        assert_eq!(durations.median(secs(1)), None);
        for took in [9, 1, 5] {
            durations.add(Nanos(took), secs(1));
        }
        assert_eq!(durations.median(secs(1)), Some(Nanos(5)));
        durations.add(Nanos(100), secs(5));
        assert_eq!(durations.median(secs(10)), Some(Nanos(9)));
        assert_eq!(durations.median(secs(11)), Some(Nanos(100)));
        assert_eq!(durations.median(secs(15)), None);
        assert!(durations.is_idle(secs(15)));
        (0..10_000).for_each(|_| durations.add(Nanos(7), secs(20)));
        assert_eq!(durations.median(secs(20)), Some(Nanos(7)));
        assert!(durations.bytes() <= 2 * MAX_CALLS * 16);
    }
}
