//! What one user or address can do to the others.

use gen_api_core::breaker::{Breaker, Caller, Check, Outcome, Permit, Settings, State, Transition};
use gen_api_core::clock::Nanos;

const HONEST: Caller = Caller(1);
const HOSTILE: Caller = Caller(2);

fn permit(breaker: &Breaker, now: Nanos) -> Permit {
    match breaker.check(now) {
        Check::Allow(permit) | Check::Probe(permit) => permit,
        Check::Deny { .. } => panic!("refused at {now:?}"),
    }
}

fn call(breaker: &Breaker, caller: Caller, outcome: Outcome, now: Nanos) -> Transition {
    breaker.record(permit(breaker, now), outcome, Some(caller), now)
}

#[test]
fn one_user_with_ten_parallel_timeouts_opens_no_circuit_for_140_good_requests_a_second() {
    let breaker = Breaker::new(Settings::default());
    for second in 0..120 {
        for n in 0..140 {
            let now = Nanos::from_millis(second * 1_000 + n * 7);
            let told = call(&breaker, HONEST, Outcome::Success, now);
            assert_eq!(told, Transition::None);
        }
        let now = Nanos::from_millis(second * 1_000 + 990);
        let parallel: Vec<_> = (0..10).map(|_| permit(&breaker, now)).collect();
        for permit in parallel {
            let told = breaker.record(permit, Outcome::Failure, Some(HOSTILE), now);
            assert_eq!(told, Transition::None);
        }
    }
}

#[test]
fn one_user_opens_no_circuit_however_rare_the_calls_of_the_others_are() {
    let breaker = Breaker::new(Settings::default());
    for second in 0..600 {
        let now = Nanos::from_secs(second);
        if second % 50 == 0 {
            let told = call(&breaker, HONEST, Outcome::Success, now);
            assert_eq!(told, Transition::None);
        }
        for _ in 0..100 {
            let told = call(&breaker, HOSTILE, Outcome::Failure, now);
            assert_eq!(told, Transition::None);
        }
        assert!(breaker.failures(now) <= 4);
    }
    assert!(breaker.bytes() < 4_096);
}

#[test]
fn a_user_who_is_alone_opens_it_and_so_do_two_who_fail() {
    let breaker = Breaker::new(Settings::default());
    let now = Nanos::from_secs(1);
    for _ in 0..4 {
        assert_eq!(
            call(&breaker, HOSTILE, Outcome::Failure, now),
            Transition::None
        );
    }
    let opened = Transition::Opened { failures: 5 };
    assert_eq!(call(&breaker, HOSTILE, Outcome::Failure, now), opened);

    let breaker = Breaker::new(Settings::default());
    for _ in 0..3 {
        call(&breaker, HONEST, Outcome::Success, now);
    }
    for _ in 0..9 {
        assert_eq!(
            call(&breaker, HOSTILE, Outcome::Failure, now),
            Transition::None
        );
    }
    assert_eq!(call(&breaker, HONEST, Outcome::Failure, now), opened);
}

#[test]
fn lost_connections_count_whoever_called() {
    let breaker = Breaker::new(Settings::default());
    let now = Nanos::from_secs(1);
    call(&breaker, HONEST, Outcome::Success, now);
    for _ in 0..4 {
        assert_eq!(
            call(&breaker, HOSTILE, Outcome::Lost, now),
            Transition::None
        );
    }
    let opened = Transition::Opened { failures: 5 };
    assert_eq!(call(&breaker, HOSTILE, Outcome::Lost, now), opened);
}

#[test]
fn thousands_of_users_who_fail_open_it_within_bounded_memory() {
    let breaker = Breaker::new(Settings::default());
    let now = Nanos::from_secs(1);
    for _ in 0..2_000 {
        call(&breaker, HONEST, Outcome::Success, now);
    }
    let mut failed = 0;
    while breaker.state(now) == State::Closed {
        failed += 1;
        let _ = call(&breaker, Caller(10 + failed), Outcome::Failure, now);
    }
    assert_eq!(failed, 2_000, "half of all calls");
    assert!(breaker.bytes() < 8_192);
}

#[test]
fn a_slow_probe_makes_way_for_the_next_call_after_one_cooldown() {
    let breaker = Breaker::new(Settings {
        threshold: 1,
        cooldown: Nanos::from_secs(2),
        ..Settings::default()
    });
    let secs = Nanos::from_secs;
    assert_eq!(
        call(&breaker, HOSTILE, Outcome::Failure, secs(0)),
        Transition::Opened { failures: 1 }
    );
    let slow = permit(&breaker, secs(3));
    assert!(matches!(breaker.check(secs(4)), Check::Deny { .. }));
    let Check::Probe(next) = breaker.check(secs(6)) else {
        panic!("the next call is the probe");
    };
    // What becomes of the first one says nothing against the node any more.
    let told = breaker.record(slow, Outcome::Failure, None, secs(6));
    assert_eq!(
        (told, breaker.state(secs(6))),
        (Transition::None, State::HalfOpen)
    );
    breaker.give_back(slow, secs(6));
    assert_eq!(breaker.state(secs(6)), State::HalfOpen);
    let told = breaker.record(next, Outcome::Success, None, secs(7));
    assert_eq!(told, Transition::Closed);
}

#[test]
fn calls_that_all_take_longer_than_a_cooldown_close_it_all_the_same() {
    let breaker = Breaker::new(Settings {
        threshold: 1,
        cooldown: Nanos::from_secs(2),
        ..Settings::default()
    });
    let _ = call(&breaker, HOSTILE, Outcome::Failure, Nanos::ZERO);
    let probes: Vec<_> = (1..8)
        .map(|n| permit(&breaker, Nanos::from_secs(3 * n)))
        .collect();
    let told = breaker.record(probes[0], Outcome::Success, None, Nanos::from_secs(23));
    assert_eq!(told, Transition::Closed);
}
