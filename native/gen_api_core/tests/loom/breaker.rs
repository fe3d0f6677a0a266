use std::sync::Arc;

use gen_api_core::breaker::{Breaker, Check, Outcome, Permit, Settings, State, Transition};
use gen_api_core::clock::Nanos;

use super::{explore, race};

const NOW: Nanos = Nanos::ZERO;
/// After any cool-down and the life of any probe of these models.
const LATER: Nanos = Nanos::from_secs(10);

fn breaker(threshold: u32) -> Breaker {
    Breaker::new(Settings {
        threshold,
        cooldown: Nanos::from_secs(1),
        probe_life: Nanos::from_secs(1),
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
    breaker.record(allowed(breaker), Outcome::Failure, NOW)
}

fn open() -> Breaker {
    let breaker = breaker(1);
    assert_eq!(fail(&breaker), Transition::Opened { consecutive: 1 });
    breaker
}

#[test]
fn no_failure_is_lost_and_one_of_them_opens() {
    explore(|| {
        let breaker = Arc::new(breaker(3));
        let mut changes = race(&breaker, [fail; 3]);
        changes.sort_by_key(|change| *change != Transition::None);
        let opened = Transition::Opened { consecutive: 3 };
        assert_eq!(changes, [Transition::None, Transition::None, opened]);
    });
}

#[test]
fn a_success_among_failures_counts_at_one_moment() {
    explore(|| {
        let breaker = Arc::new(breaker(2));
        let succeed = |breaker: &Breaker| match breaker.check(NOW) {
            Check::Allow(permit) => breaker.record(permit, Outcome::Success, NOW),
            _ => Transition::None,
        };
        fail(&breaker);
        let [one, other] = race(&breaker, [succeed, |breaker| fail(breaker)]);
        assert_eq!(one, Transition::None);
        let state = breaker.state(NOW);
        match other {
            // The success came first: this is the first failure of a row. Or it came last.
            Transition::None => assert_eq!(state, State::Closed { consecutive: 1 }),
            Transition::Opened { consecutive } => {
                assert_eq!(consecutive, 2);
                assert!(matches!(state, State::Open { .. }));
            }
            Transition::Closed => panic!("it was not open"),
        }
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
fn a_probe_closes_or_has_been_replaced() {
    struct World(Breaker, Permit);
    explore(|| {
        let breaker = open();
        let Check::Probe(probe) = breaker.check(Nanos::from_secs(2)) else {
            panic!("the cool-down is over");
        };
        let world = Arc::new(World(breaker, probe));
        let [closed, probed] = race(
            &world,
            [
                |w: &World| w.0.record(w.1, Outcome::Success, LATER) == Transition::Closed,
                |w| matches!(w.0.check(LATER), Check::Probe(_)),
            ],
        );
        assert!(closed != probed);
        assert_eq!(world.0.state(LATER) == State::HalfOpen, probed);
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
