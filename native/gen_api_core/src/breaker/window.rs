//! The outcomes of the last calls, a bit each.
//!
//! Every change of a bit is matched by one change of the count, made by whoever changed the bit. So the count
//! is off only while a change is being made, and never drifts: not even when the window is emptied while
//! outcomes are added.

use crate::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::FailureRate;

#[derive(Debug)]
pub(super) struct Window {
    words: Box<[AtomicU64]>,
    length: u64,
    too_many: i64,
    // Outcomes since ever, and when the window was last emptied.
    added: AtomicU64,
    emptied: AtomicU64,
    failures: AtomicI64,
}

impl Window {
    pub(super) fn new(rate: FailureRate) -> Self {
        let length = rate.window.clamp(1, FailureRate::MAX_WINDOW);
        Self {
            words: (0..length.div_ceil(64))
                .map(|_| AtomicU64::new(0))
                .collect(),
            length: u64::from(length),
            too_many: i64::from(rate.failures.max(1)),
            added: AtomicU64::new(0),
            emptied: AtomicU64::new(0),
            failures: AtomicI64::new(0),
        }
    }

    pub(super) fn add_success(&self) {
        let (word, bit) = self.next();
        if word.is_some_and(|word| word.fetch_and(!bit, Relaxed) & bit != 0) {
            self.failures.fetch_sub(1, Relaxed);
        }
    }

    /// True when there are too many now.
    pub(super) fn add_failure(&self) -> bool {
        let (word, bit) = self.next();
        if word.is_some_and(|word| word.fetch_or(bit, Relaxed) & bit == 0) {
            self.failures.fetch_add(1, Relaxed);
        }
        let added = self.added.load(Relaxed);
        added.saturating_sub(self.emptied.load(Relaxed)) >= self.length
            && self.failures.load(Relaxed) >= self.too_many
    }

    pub(super) fn empty(&self) {
        for word in &self.words {
            let ones = word.swap(0, Relaxed).count_ones();
            self.failures.fetch_sub(i64::from(ones), Relaxed);
        }
        self.emptied.store(self.added.load(Relaxed), Relaxed);
    }

    fn next(&self) -> (Option<&AtomicU64>, u64) {
        let place = self.added.fetch_add(1, Relaxed) % self.length;
        (self.words.get((place / 64) as usize), 1 << (place % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::{FailureRate, Relaxed, Window};

    #[test]
    fn the_count_is_that_of_the_bits_after_any_race() {
        for window in [1, 63, 64, 100] {
            let window = Window::new(FailureRate {
                failures: 1,
                window,
            });
            std::thread::scope(|scope| {
                for thread in 0..3u64 {
                    let window = &window;
                    scope.spawn(move || {
                        for i in 0..20_000u64 {
                            match (i * 7 + thread) % 11 {
                                0..=4 => window.add_success(),
                                5 if thread == 0 => window.empty(),
                                _ => drop(window.add_failure()),
                            }
                        }
                    });
                }
            });
            let ones = |word: &super::AtomicU64| i64::from(word.load(Relaxed).count_ones());
            assert_eq!(
                window.failures.load(Relaxed),
                window.words.iter().map(ones).sum::<i64>()
            );
        }
    }
}
