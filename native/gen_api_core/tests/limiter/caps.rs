use gen_api_core::clock::Nanos;
use gen_api_core::limiter::{Decision, Limiter};

use super::{caps, check, denied, limit, sweep_all};

#[test]
fn a_flood_of_values_overflows_and_lifts_the_limit_of_nobody() {
    let limiter = Limiter::new(caps(8, 100, 1_000_000));
    let one = limit(&limiter, "one", 1, 1_000);
    assert_eq!(check(&limiter, &one, "ann", 0), Decision::Admitted);
    let flood = (0..10_000).map(|i| check(&limiter, &one, &i.to_string(), 1));
    let admitted = flood.filter(|d| *d == Decision::Admitted).count();
    assert_eq!(admitted, 99);
    assert_eq!(limiter.stats().overflowed, 10_000 - 99);
    assert_eq!(check(&limiter, &one, "ann", 2), denied(0, 998, 1));
    // The cap is per limit.
    let other = limit(&limiter, "other", 1, 1_000);
    assert_eq!(check(&limiter, &other, "new", 2), Decision::Admitted);
}

#[test]
fn a_known_value_needs_no_new_window() {
    let limiter = Limiter::new(caps(8, 1, 1_000_000));
    let two = limit(&limiter, "two", 2, 1_000);
    assert_eq!(check(&limiter, &two, "ann", 0), Decision::Admitted);
    assert_eq!(check(&limiter, &two, "bob", 0), Decision::Overflow);
    assert_eq!(check(&limiter, &two, "ann", 0), Decision::Admitted);
}

#[test]
fn a_check_that_overflows_one_limit_consumes_nothing_of_the_others() {
    let limiter = Limiter::new(caps(8, 1, 1_000_000));
    let user = limit(&limiter, "user", 5, 1_000);
    let ip = limit(&limiter, "ip", 5, 1_000);
    let of = |value: &'static str| [(&user, b"ann".as_slice()), (&ip, value.as_bytes())];
    assert_eq!(limiter.check(&of("1"), Nanos(0)), Decision::Admitted);
    for value in ["2", "3"] {
        assert_eq!(limiter.check(&of(value), Nanos(0)), Decision::Overflow);
    }
    assert_eq!(limiter.peek(&user, b"ann", Nanos(0)).current, 1);
    let stats = limiter.stats();
    assert_eq!((stats.windows, stats.entries, stats.overflowed), (2, 2, 2));
}

#[test]
fn the_last_entry_of_all_can_be_had_by_any_shard() {
    for max_entries in [1, 7, 1_000, 20_000] {
        let limiter = Limiter::new(caps(8, 1_000_000, max_entries));
        let any = limit(&limiter, "any", 100, 1_000);
        for i in 0..max_entries {
            assert_eq!(
                check(&limiter, &any, &i.to_string(), 0),
                Decision::Admitted,
                "entry {i} of {max_entries}"
            );
        }
        assert_eq!(check(&limiter, &any, "more", 0), Decision::Overflow);
        assert_eq!(check(&limiter, &any, "0", 0), Decision::Overflow);
        assert_eq!(limiter.stats().entries, max_entries);
        assert_eq!(sweep_all(&limiter, 1_000), max_entries);
        assert_eq!(check(&limiter, &any, "more", 1_000), Decision::Admitted);
    }
}

#[test]
fn without_a_sweep_checks_reclaim_what_has_expired() {
    for (max_keys, max_entries) in [(1_000, 1_000_000), (1_000_000, 1_000)] {
        let limiter = Limiter::new(caps(4, max_keys, max_entries));
        let one = limit(&limiter, "one", 1, 1_000);
        for round in 0..20u64 {
            let values = (0..1_000).map(|i| format!("{round}/{i}"));
            let decisions = values.map(|value| check(&limiter, &one, &value, round * 1_000));
            // A check looks at some windows only, and may happen on none that has expired.
            let admitted = decisions.filter(|d| *d == Decision::Admitted).count();

            assert!(admitted > 900, "{admitted} in round {round}");
        }
    }
}

#[test]
fn ten_million_values_leave_memory_flat() {
    let values = if cfg!(debug_assertions) {
        300_000u64
    } else {
        10_000_000
    };
    let limiter = Limiter::new(caps(64, 100_000, 16_000_000));
    let limit = limit(&limiter, "one", 5, 1_000_000);
    let mut most = 0;
    let mut full = 0;
    for i in 0..values {
        let value = i.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_string();
        check(&limiter, &limit, &value, i);
        if i == 100_000 {
            full = limiter.stats().bytes;
        } else if i % 10_000 == 0 {
            limiter.sweep(Nanos(i), 5_000);
            most = most.max(limiter.stats().bytes);
        }
        assert!(i % 1_000 != 0 || limiter.stats().windows <= 100_000);
    }
    assert!(
        most <= full + full / 10,
        "{most} bytes, {full} when just full"
    );
}
