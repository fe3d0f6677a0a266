use gen_api_core::clock::Nanos;
use gen_api_core::limiter::{Caps, Decision, Limiter};

use super::{check, denied, limit, sweep_all};

#[test]
fn windows_are_separate_per_limit_and_value() {
    let limiter = Limiter::new(Caps::default());
    let user = limit(&limiter, "user", 1, 100);
    let device = limit(&limiter, "device", 1, 100);
    for limit in [&user, &device] {
        for value in ["x", "y", "", "xx"] {
            assert_eq!(check(&limiter, limit, value, 0), Decision::Admitted);
            assert_eq!(check(&limiter, limit, value, 0), denied(0, 100, 1));
        }
    }
    assert_eq!(limiter.stats().windows, 8);
}

#[test]
fn values_of_any_length_are_told_apart() {
    let limiter = Limiter::new(Caps::default());
    let one = limit(&limiter, "one", 1, 100);
    for len in 0..200 {
        for last in ["a", "b"] {
            let value = "v".repeat(len) + last;
            assert_eq!(check(&limiter, &one, &value, 0), Decision::Admitted);
            assert_eq!(check(&limiter, &one, &value, 0), denied(0, 100, 1));
        }
    }
}

#[test]
fn a_request_denied_by_one_limit_consumes_nothing_of_the_others() {
    let limiter = Limiter::new(Caps::default());
    let wide = limit(&limiter, "wide", 10, 100);
    let narrow = limit(&limiter, "narrow", 1, 100);
    let both = [(&wide, b"ann".as_slice()), (&narrow, b"1.2.3.4".as_slice())];
    assert_eq!(limiter.check(&both, Nanos(0)), Decision::Admitted);
    for _ in 0..50 {
        assert_eq!(limiter.check(&both, Nanos(1)), denied(1, 99, 1));
    }
    assert_eq!(limiter.peek(&wide, b"ann", Nanos(1)).current, 1);
    assert_eq!(limiter.stats().entries, 2);
}

#[test]
fn of_several_limits_that_deny_the_one_that_takes_longest_is_named() {
    let limiter = Limiter::new(Caps::default());
    let short = limit(&limiter, "key", 1, 100);
    let long = limit(&limiter, "key", 1, 1_000);
    let same = limit(&limiter, "other", 1, 1_000);
    let charges = [(&short, b"x".as_slice()), (&long, b"x"), (&same, b"x")];
    assert_eq!(limiter.check(&charges, Nanos(0)), Decision::Admitted);
    assert_eq!(limiter.check(&charges, Nanos(10)), denied(1, 990, 1));
    assert_eq!(limiter.check(&charges, Nanos(1_000)), Decision::Admitted);
}

#[test]
fn a_charge_listed_twice_counts_twice() {
    let limiter = Limiter::new(Caps::default());
    let three = limit(&limiter, "three", 3, 100);
    let one = limit(&limiter, "one", 1, 100);
    let twice = [(&three, b"x".as_slice()), (&three, b"x")];
    assert_eq!(limiter.check(&twice, Nanos(0)), Decision::Admitted);
    assert_eq!(limiter.check(&twice, Nanos(1)), denied(1, 99, 2));
    assert_eq!(check(&limiter, &three, "x", 1), Decision::Admitted);
    let never = [(&one, b"y".as_slice()), (&one, b"y")];
    assert_eq!(limiter.check(&never, Nanos(1)), denied(1, 100, 0));
    assert_eq!(limiter.check(&[], Nanos(1)), Decision::Admitted);
}

#[test]
fn a_limit_replaced_by_another_number_keeps_its_counts() {
    let limiter = Limiter::new(Caps::default());
    let five = limit(&limiter, "key", 5, 100);
    for now in 0..5 {
        assert_eq!(check(&limiter, &five, "x", now), Decision::Admitted);
    }
    let seven = limit(&limiter, "key", 7, 100);
    assert_eq!(seven.id(), five.id());
    assert_eq!(check(&limiter, &seven, "x", 5), Decision::Admitted);
    let two = limit(&limiter, "key", 2, 100);
    assert_eq!(check(&limiter, &two, "x", 6), denied(0, 98, 6));
    assert_eq!(check(&limiter, &two, "x", 103), denied(0, 1, 2));
    assert_eq!(check(&limiter, &two, "x", 104), Decision::Admitted);
    assert_ne!(limit(&limiter, "key", 5, 101).id(), five.id());
}

#[test]
fn a_forgotten_limit_starts_anew_and_its_windows_go_with_the_sweeps() {
    let limiter = Limiter::new(Caps::default());
    let old = limit(&limiter, "key", 1, 1_000);
    let kept = limit(&limiter, "kept", 1, 1_000);
    for value in 0..100 {
        let value = value.to_string();
        check(&limiter, &old, &value, 0);
        check(&limiter, &kept, &value, 0);
    }
    assert!(limiter.forget(old.id()));
    assert!(!limiter.forget(old.id()));
    let new = limit(&limiter, "key", 1, 1_000);
    assert_ne!(new.id(), old.id());
    assert_eq!(check(&limiter, &new, "7", 1), Decision::Admitted);
    assert_eq!(check(&limiter, &kept, "7", 1), denied(0, 999, 1));
    assert_eq!(sweep_all(&limiter, 1), 100);
    assert_eq!(limiter.stats().windows, 101);
}

#[test]
fn clearing_forgets_every_window_and_keeps_the_limits() {
    let limiter = Limiter::new(Caps::default());
    let one = limit(&limiter, "one", 1, 1_000);
    for value in 0..1_000 {
        check(&limiter, &one, &value.to_string(), 0);
    }
    assert_eq!(limiter.clear(), 1_000);
    let stats = limiter.stats();
    assert_eq!((stats.windows, stats.entries), (0, 0));
    assert_eq!(stats.bytes, Limiter::new(Caps::default()).stats().bytes);
    assert_eq!(check(&limiter, &one, "1", 0), Decision::Admitted);
}

#[test]
fn instances_share_nothing() {
    let limiters = [Limiter::new(Caps::default()), Limiter::new(Caps::default())];
    for limiter in &limiters {
        let one = limit(limiter, "one", 1, 100);
        assert_eq!(check(limiter, &one, "x", 0), Decision::Admitted);
        assert_eq!(limiter.stats().windows, 1);
    }
}
