//! What holds under any interleaving.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::Barrier;

use gen_api_core::breaker::{Breaker, Check, Outcome, Settings, State, Transition};
use gen_api_core::clock::Nanos;

fn settings(threshold: u32) -> Settings {
    Settings {
        threshold,
        cooldown: Nanos::from_secs(1),
        ..Settings::default()
    }
}

fn allowed(breaker: &Breaker) -> gen_api_core::breaker::Permit {
    match breaker.check(Nanos::ZERO) {
        Check::Allow(permit) => permit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_failure_is_lost_and_one_thread_opens() {
    for _ in 0..200 {
        let breaker = Breaker::new(settings(64));
        let (barrier, opened) = (Barrier::new(4), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    for _ in 0..16 {
                        let permit = allowed(&breaker);
                        match breaker.record(permit, Outcome::Failure, None, Nanos::ZERO) {
                            Transition::Opened { failures } => {
                                assert_eq!(failures, 64);
                                opened.fetch_add(1, SeqCst);
                            }
                            other => assert_eq!(other, Transition::None),
                        }
                    }
                });
            }
        });
        assert_eq!(opened.load(SeqCst), 1);
    }
}

#[test]
fn one_of_many_threads_is_the_probe() {
    for round in 0..500 {
        let breaker = Breaker::new(settings(1));
        let permit = allowed(&breaker);
        breaker.record(permit, Outcome::Failure, None, Nanos::ZERO);
        let (barrier, probes) = (Barrier::new(4), AtomicU32::new(0));
        let later = Nanos::from_secs(2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    match breaker.check(later) {
                        Check::Probe(_) => drop(probes.fetch_add(1, SeqCst)),
                        other => assert_eq!(other, Check::Deny { retry_in: None }),
                    }
                });
            }
        });
        assert_eq!(probes.load(SeqCst), 1, "round {round}");
        assert_eq!(breaker.state(later), State::HalfOpen);
    }
}

#[test]
fn it_opens_and_closes_in_turn() {
    let breaker = Breaker::new(settings(3));
    let clock = AtomicU64::new(0);
    // Opens of a closed breaker, opens by a failed probe, closes, probes, probes that came too late.
    let counts = [const { AtomicU32::new(0) }; 5];
    std::thread::scope(|scope| {
        for thread in 0..3u64 {
            let (breaker, clock, counts) = (&breaker, &clock, &counts);
            scope.spawn(move || {
                for i in 0..50_000u64 {
                    let now = Nanos(clock.fetch_add(1_000_000, SeqCst));
                    let (permit, probe) = match breaker.check(now) {
                        Check::Allow(permit) => (permit, false),
                        Check::Probe(permit) => (permit, true),
                        Check::Deny { .. } => continue,
                    };
                    counts[3].fetch_add(u32::from(probe), SeqCst);
                    // Without a period that could fall in with that of the breaker.
                    let failed = (i * 3 + thread).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 63 == 0;
                    let outcome = if failed {
                        Outcome::Failure
                    } else {
                        Outcome::Success
                    };
                    match breaker.record(permit, outcome, None, now) {
                        Transition::Opened { .. } => {
                            counts[usize::from(probe)].fetch_add(1, SeqCst)
                        }
                        Transition::Closed => counts[2].fetch_add(1, SeqCst),
                        // Its thread stood still for a cool-down, and another probe has taken its place.
                        Transition::None if probe => {
                            let late = clock.load(SeqCst) - now.0;
                            assert!(Nanos(late) >= settings(3).cooldown, "after {late} ns");
                            counts[4].fetch_add(1, SeqCst)
                        }
                        Transition::None => 0,
                    };
                }
            });
        }
    });
    let [opened, reopened, closed, probes, late] = counts.map(AtomicU32::into_inner);
    assert!(opened > 10 && reopened > 10 && closed > 10);
    assert_eq!(
        probes,
        reopened + closed + late,
        "every probe that is in time decides"
    );
    assert!(
        opened == closed || opened == closed + 1,
        "{opened} {closed}"
    );
}
