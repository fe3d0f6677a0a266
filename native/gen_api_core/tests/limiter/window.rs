use gen_api_core::clock::Nanos;
use gen_api_core::limiter::{Caps, Decision, Limiter, SlidingWindow, Status};

use super::{check, denied, limit, sweep_all};

const SECOND: u64 = 1_000_000_000;

#[test]
fn a_request_passes_at_the_very_nanosecond_that_was_promised_and_not_before() {
    let limiter = Limiter::new(Caps::default());
    let three = limit(&limiter, "three", 3, SECOND);
    for now in [5, 5, 400] {
        assert_eq!(check(&limiter, &three, "ann", now), Decision::Admitted);
    }
    let now = 700;
    let retry = SECOND + 5 - now;
    assert_eq!(check(&limiter, &three, "ann", now), denied(0, retry, 3));
    assert_eq!(
        check(&limiter, &three, "ann", now + retry - 1),
        denied(0, 1, 3)
    );
    assert_eq!(
        check(&limiter, &three, "ann", now + retry),
        Decision::Admitted
    );
    assert_eq!(
        check(&limiter, &three, "ann", now + retry),
        Decision::Admitted
    );
    assert_eq!(
        check(&limiter, &three, "ann", now + retry),
        denied(0, 395, 3)
    );
}

#[test]
fn a_limit_of_none_denies_all_for_a_window_and_keeps_nothing() {
    let limiter = Limiter::new(Caps::default());
    let none = limit(&limiter, "none", 0, SECOND);
    for now in [0, 1, 5 * SECOND] {
        assert_eq!(check(&limiter, &none, "ann", now), denied(0, SECOND, 0));
    }
    assert_eq!(limiter.stats().windows, 0);
}

#[test]
fn a_clock_that_goes_back_admits_no_more_than_one_that_stands_still() {
    let limiter = Limiter::new(Caps::default());
    let two = limit(&limiter, "two", 2, 100);
    assert_eq!(check(&limiter, &two, "ann", 1_000), Decision::Admitted);
    assert_eq!(check(&limiter, &two, "ann", 3), Decision::Admitted);
    for now in [0, 3, 999, 1_099] {
        assert_eq!(check(&limiter, &two, "ann", now), denied(0, 1_100 - now, 2));
    }
    assert_eq!(check(&limiter, &two, "ann", 1_100), Decision::Admitted);
}

#[test]
fn a_clock_that_goes_back_past_a_sweep_admits_no_more() {
    let limiter = Limiter::new(Caps::default());
    let one = limit(&limiter, "one", 1, 100);
    assert_eq!(check(&limiter, &one, "ann", 0), Decision::Admitted);
    assert_eq!(sweep_all(&limiter, 150), 1);
    // By the clock of the limiter this is at 150, when the first request did not count any more.
    assert_eq!(check(&limiter, &one, "ann", 50), Decision::Admitted);
    assert_eq!(check(&limiter, &one, "ann", 60), denied(0, 190, 1));
    assert_eq!(check(&limiter, &one, "ann", 249), denied(0, 1, 1));
}

#[test]
fn a_clock_that_goes_back_past_a_sweep_of_a_live_window_admits_no_more() {
    let limiter = Limiter::new(Caps::default());
    let two = limit(&limiter, "two", 2, 100);
    for now in [0, 90] {
        assert_eq!(check(&limiter, &two, "ann", now), Decision::Admitted);
    }
    assert_eq!(sweep_all(&limiter, 150), 0);
    // Counts as made at 150, when the first request had been forgotten.
    assert_eq!(check(&limiter, &two, "ann", 95), Decision::Admitted);
    assert_eq!(check(&limiter, &two, "ann", 190), Decision::Admitted);
    assert_eq!(check(&limiter, &two, "ann", 249), denied(0, 1, 2));
}

#[test]
fn times_at_the_end_of_the_clock_do_not_overflow() {
    let limiter = Limiter::new(Caps::default());
    let two = limit(&limiter, "two", 2, SECOND);
    for now in [u64::MAX - 10, u64::MAX] {
        assert_eq!(check(&limiter, &two, "ann", now), Decision::Admitted);
    }
    assert_eq!(
        check(&limiter, &two, "ann", u64::MAX),
        denied(0, SECOND - 10, 2)
    );
    assert_eq!(check(&limiter, &two, "ann", 0), denied(0, u64::MAX, 2));
}

#[test]
fn the_longest_window_is_exact_over_years() {
    let limiter = Limiter::new(Caps::default());
    let month = SlidingWindow::LONGEST.0;
    let limit = limit(&limiter, "month", 10, month);
    let mut now = 7;
    for _ in 0..500 {
        for i in 0..10 {
            assert_eq!(check(&limiter, &limit, "ann", now + i), Decision::Admitted);
        }
        assert_eq!(
            check(&limiter, &limit, "ann", now + 10),
            denied(0, month - 10, 10)
        );
        assert_eq!(
            check(&limiter, &limit, "ann", now + month - 1),
            denied(0, 1, 10)
        );
        now += month + 20;
    }
}

#[test]
fn a_window_of_zero_or_of_more_than_31_days_is_refused() {
    assert_eq!(SlidingWindow::new(1, Nanos::ZERO), None);
    let longest = SlidingWindow::LONGEST;
    assert_eq!(longest, Nanos::from_millis(2_678_400_000));
    assert!(SlidingWindow::new(1_000_000, longest).is_some());
    assert_eq!(
        SlidingWindow::new(1, longest.saturating_add(Nanos(1))),
        None
    );
}

#[test]
fn a_million_requests_that_expire_at_once_are_freed_in_slices() {
    let limiter = Limiter::new(Caps::default());
    let million = limit(&limiter, "million", 1_000_000, 100);
    for _ in 0..1_000_000 {
        assert_eq!(check(&limiter, &million, "ann", 0), Decision::Admitted);
    }
    assert_eq!(
        check(&limiter, &million, "ann", 99),
        denied(0, 1, 1_000_000)
    );
    let full = limiter.stats();
    assert_eq!((full.windows, full.entries), (1, 1_000_000));
    assert!(full.bytes < 8 * 1_000_000 + Limiter::new(Caps::default()).stats().bytes);

    let mut entries = full.entries;
    for admitted in 1..=200 {
        assert_eq!(check(&limiter, &million, "ann", 100), Decision::Admitted);
        let status = limiter.peek(&million, b"ann", Nanos(100));
        assert_eq!(
            (status.current, status.remaining),
            (admitted, 1_000_000 - admitted)
        );
        let left = limiter.stats().entries;
        assert!(left > entries.saturating_sub(8_192));
        entries = left;
    }
    assert_eq!(entries, 200);

    assert_eq!(sweep_all(&limiter, 200), 1);
    assert_eq!((limiter.stats().windows, limiter.stats().entries), (0, 0));
}

#[test]
fn resetting_a_huge_window_takes_effect_at_once_and_frees_it_later() {
    let limiter = Limiter::new(Caps::default());
    let limit = limit(&limiter, "many", 100_000, 100);
    for _ in 0..100_000 {
        check(&limiter, &limit, "ann", 0);
    }
    assert!(limiter.reset(&limit, b"ann"));
    assert!(!limiter.reset(&limit, b"bob"));
    let fresh = Status {
        current: 0,
        remaining: 100_000,
        retry_after: Nanos::ZERO,
    };
    assert_eq!(limiter.peek(&limit, b"ann", Nanos(1)), fresh);
    assert_eq!(check(&limiter, &limit, "ann", 1), Decision::Admitted);
    assert_eq!(limiter.peek(&limit, b"ann", Nanos(1)).current, 1);
    let slices = std::iter::repeat_with(|| limiter.sweep(Nanos(1), 100)).take(20);
    assert!(slices
        .map(|swept| swept.windows)
        .all(|windows| windows == 0));
    assert_eq!(limiter.stats().entries, 1);
}
