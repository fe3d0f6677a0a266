//! The retry budget against a model that keeps every event.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use gen_api_core::clock::Nanos;
use gen_api_core::retry::{Allowance, Budget};
use proptest::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::Barrier;

const TEN_SECONDS: u64 = 10_000_000_000;

fn allowance(ratio: f64, free: u32) -> Allowance {
    Allowance { ratio, free }
}

/// Every event by its time.
#[derive(Default)]
struct Model {
    requests: Vec<u64>,
    retries: Vec<u64>,
}

impl Model {
    fn retry(&mut self, now: u64, allowance: Allowance) -> bool {
        let second = |time: u64| time / 1_000_000_000;
        let count = |events: &[u64], seconds: u64| {
            let since = second(now).saturating_sub(seconds);
            events.iter().filter(|&&at| second(at) >= since).count()
        };
        let spent = count(&self.retries, 10);
        let earned = count(&self.requests, 9) as f64 * allowance.ratio;
        let allowed = spent < allowance.free as usize || (spent + 1) as f64 <= earned;
        if allowed {
            self.retries.push(now);
        }
        allowed
    }

    /// What the budget promises, said without seconds.
    fn holds(&self, allowance: Allowance) -> bool {
        self.retries.iter().all(|&now| {
            let within = |events: &[u64]| {
                let recent = |&&at: &&u64| at <= now && at + TEN_SECONDS > now;
                events.iter().filter(recent).count() as f64
            };
            let earned = within(&self.requests) * allowance.ratio;
            within(&self.retries) <= earned.max(f64::from(allowance.free))
        })
    }
}

proptest! {
    #[test]
    fn answers_as_a_model_that_keeps_every_event(
        steps in prop::collection::vec((0u64..1_500_000_000, any::<bool>()), 1..400),
        ratio in prop_oneof![Just(0.0), Just(0.2), Just(1.0), 0.0..3.0],
        free in prop_oneof![Just(0u32), Just(10), 0u32..30],
        quick in any::<bool>(),
    ) {
        let budget = Budget::default();
        let allowance = allowance(ratio, free);
        let mut model = Model::default();
        let mut now = 0;
        for (pause, retry) in steps {
            now += if quick { pause / 100 } else { pause };
            if retry {
                let wanted = model.retry(now, allowance);
                prop_assert_eq!(budget.retry(Nanos(now), allowance), wanted);
            } else {
                budget.request(Nanos(now));
                model.requests.push(now);
            }
        }
        prop_assert!(model.holds(allowance));
        prop_assert!(!budget.is_idle(Nanos(now)) || model.retries.is_empty() && model.requests.is_empty());
        prop_assert!(budget.is_idle(Nanos(now + TEN_SECONDS + 1_000_000_000)));
    }
}

#[test]
fn a_failing_service_sees_a_fifth_more_and_ten_retries_are_always_free() {
    let budget = Budget::default();
    let allowance = allowance(0.2, 10);
    let mut retries = [0u32; 60];
    for ms in 0..60_000u64 {
        let now = Nanos::from_millis(ms);
        budget.request(now);
        // Everything fails, and each would like three retries.
        let granted = (0..3).filter(|_| budget.retry(now, allowance)).count();
        retries[(ms / 1_000) as usize] += granted as u32;
    }
    for (at, window) in retries.windows(10).enumerate() {
        let sum: u32 = window.iter().sum();
        assert!(sum <= 2_000, "{sum} in the ten seconds from {at}");
        assert!(sum >= 1_700, "{sum} in the ten seconds from {at}");
    }

    let idle = Budget::default();
    let granted = (0..100)
        .filter(|_| idle.retry(Nanos::ZERO, allowance))
        .count();
    assert_eq!(granted, 10);
    assert!(!idle.retry(Nanos::from_secs(10), allowance));
    assert!(idle.retry(Nanos::from_secs(11), allowance));
}

#[test]
fn time_that_runs_backwards_between_threads_frees_nothing() {
    let budget = Budget::default();
    let none = allowance(0.0, 2);
    assert!(budget.retry(Nanos::from_secs(30), none));
    assert!(budget.retry(Nanos::from_secs(3), none));
    assert!(!budget.retry(Nanos::from_secs(3), none));
    assert!(!budget.retry(Nanos::from_secs(30), none));
    budget.request(Nanos::from_secs(41));
    // The slot of second 30 is that of second 41 by now.
    budget.request(Nanos::from_secs(30));
    assert!(budget.retry(Nanos::from_secs(41), allowance(1.0, 0)));
    assert!(!budget.retry(Nanos::from_secs(41), allowance(1.0, 0)));
}

#[test]
fn threads_together_never_spend_more_than_there_is() {
    let budget = Budget::default();
    let granted = AtomicU64::new(0);
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                for n in 0..10_000u64 {
                    // All within the same ten seconds.
                    let now = Nanos(n * 900_000);
                    budget.request(now);
                    if budget.retry(now, allowance(0.2, 10)) {
                        granted.fetch_add(1, SeqCst);
                    }
                }
            });
        }
    });
    let granted = granted.load(SeqCst);
    assert!((15_000..=16_000).contains(&granted), "{granted}");
}
