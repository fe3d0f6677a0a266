use std::sync::Arc;

use gen_api_core::breaker::{Breaker, Caller, Check, Outcome, Permit, Settings, State, Transition};
use gen_api_core::clock::Nanos;

use super::{explore, race};

const NOW: Nanos = Nanos::ZERO;
/// After any cool-down and the life of any probe of these models.
const LATER: Nanos = Nanos::from_secs(10);

fn breaker(threshold: u32) -> Breaker {
    Breaker::new(Settings {
        threshold,
        cooldown: Nanos::from_secs(1),
        ..Settings::default()
    })
}

fn allowed(breaker: &Breaker) -> Permit {
    match breaker.check(NOW) {
        Check::Allow(permit) => permit,
        other => panic!("{other:?}"),
    }
}

fn fail(breaker: &Breaker) -> Transition {
    breaker.record(allowed(breaker), Outcome::Failure, None, NOW)
}

fn open() -> Breaker {
    let breaker = breaker(1);
    assert_eq!(fail(&breaker), Transition::Opened { failures: 1 });
    breaker
}

#[test]
fn no_failure_is_lost_and_one_of_them_opens() {
    explore(|| {
        let breaker = Arc::new(breaker(3));
        let mut changes = race(&breaker, [fail; 3]);
        changes.sort_by_key(|change| *change != Transition::None);
        let opened = Transition::Opened { failures: 3 };
        assert_eq!(changes, [Transition::None, Transition::None, opened]);
    });
}

#[test]
fn a_success_that_meets_a_failure_is_counted_before_it_or_after_it() {
    explore(|| {
        let breaker = Arc::new(Breaker::new(Settings {
            threshold: 1,
            failure_rate: 1.0,
            cooldown: Nanos::from_secs(1),
        }));
        let succeed = |breaker: &Breaker| match breaker.check(NOW) {
            Check::Allow(permit) => breaker.record(permit, Outcome::Success, None, NOW),
            _ => Transition::None,
        };
        let [one, other] = race(&breaker, [succeed, |breaker| fail(breaker)]);
        assert_eq!(one, Transition::None);
        match other {
            Transition::None => {
                assert_eq!(breaker.state(NOW), State::Closed);
                assert_eq!(breaker.failures(NOW), 1);
            }
            opened => {
                assert_eq!(opened, Transition::Opened { failures: 1 });
                assert!(matches!(breaker.state(NOW), State::Open { .. }));
            }
        }
    });
}

fn call(breaker: &Breaker, caller: u32) {
    let permit = allowed(breaker);
    let _ = breaker.record(permit, Outcome::Success, Some(Caller(caller)), NOW);
}

#[test]
fn two_callers_that_meet_are_both_seen() {
    explore(|| {
        let breaker = Arc::new(breaker(2));
        race(
            &breaker,
            [
                |breaker: &Breaker| call(breaker, 1),
                |breaker| call(breaker, 2),
            ],
        );
        for _ in 0..3 {
            let permit = allowed(&breaker);
            let told = breaker.record(permit, Outcome::Failure, Some(Caller(1)), NOW);
            assert_eq!(told, Transition::None, "one of two users");
        }
        assert_eq!(breaker.failures(NOW), 1);
    });
}

#[test]
fn one_of_all_is_the_probe() {
    explore(|| {
        let breaker = Arc::new(open());
        let checks = race(&breaker, [|breaker: &Breaker| breaker.check(LATER); 3]);
        let probes = checks.iter().filter(|c| matches!(c, Check::Probe(_)));
        assert_eq!(probes.count(), 1);
        assert_eq!(breaker.state(LATER), State::HalfOpen);
    });
}

#[test]
fn a_probe_that_took_too_long_closes_it_though_the_next_one_has_begun() {
    struct World(Breaker, Permit);
    explore(|| {
        let breaker = open();
        let Check::Probe(probe) = breaker.check(Nanos::from_secs(2)) else {
            panic!("the cool-down is over");
        };
        let world = Arc::new(World(breaker, probe));
        let [closed, _probed] = race(
            &world,
            [
                |w: &World| w.0.record(w.1, Outcome::Success, None, LATER) == Transition::Closed,
                |w| matches!(w.0.check(LATER), Check::Probe(_)),
            ],
        );
        assert!(closed);
        assert_eq!(world.0.state(LATER), State::Closed);
    });
}

#[test]
fn a_probe_that_is_given_back_is_the_next_call() {
    struct World(Breaker, Permit);
    explore(|| {
        let breaker = open();
        let Check::Probe(probe) = breaker.check(LATER) else {
            panic!("the cool-down is over");
        };
        let world = Arc::new(World(breaker, probe));
        let [_, one, other] = race(
            &world,
            [
                |w: &World| {
                    w.0.give_back(w.1, LATER);
                    false
                },
                |w| matches!(w.0.check(LATER), Check::Probe(_)),
                |w| matches!(w.0.check(LATER), Check::Probe(_)),
            ],
        );
        assert!(!(one && other));
        let next = matches!(world.0.check(LATER), Check::Probe(_));
        assert_eq!(next, !(one || other));
    });
}
