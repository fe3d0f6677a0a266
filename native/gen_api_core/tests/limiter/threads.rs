use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::Barrier;
use std::thread;

use gen_api_core::clock::Nanos;
use gen_api_core::limiter::{Caps, Decision, Limit, Limiter};

use super::{caps, limit};

const THREADS: usize = 8;

/// Runs `work` in all threads at once and adds up what they return.
fn race(work: impl Fn(usize) -> usize + Sync) -> usize {
    let start = Barrier::new(THREADS);
    let total = AtomicUsize::new(0);
    thread::scope(|scope| {
        for index in 0..THREADS {
            let (start, total, work) = (&start, &total, &work);
            scope.spawn(move || {
                start.wait();
                total.fetch_add(work(index), SeqCst);
            });
        }
    });
    total.into_inner()
}

fn admitted(limiter: &Limiter, charges: &[(&Limit, &[u8])], now: u64, times: usize) -> usize {
    let checks = (0..times).map(|_| limiter.check(charges, Nanos(now)));
    checks.filter(|d| *d == Decision::Admitted).count()
}

#[test]
fn threads_that_race_for_one_value_are_admitted_exactly_up_to_the_limit() {
    let limiter = Limiter::new(Caps::default());
    let limit = limit(&limiter, "limit", 1_000, 100);
    let expected = [
        (0, 1_000),
        (50, 0),
        (99, 0),
        (100, 1_000),
        (199, 0),
        (200, 1_000),
    ];
    for (now, expected) in expected {
        let total = race(|_| admitted(&limiter, &[(&limit, b"ann")], now, 400));
        assert_eq!(total, expected, "at {now}");
    }
}

#[test]
fn threads_that_share_some_limits_consume_nothing_by_denied_requests() {
    let limiter = Limiter::new(caps(8, 1_000, 1_000_000));
    let limits = [
        limit(&limiter, "a", 900, 100),
        limit(&limiter, "b", 700, 100),
        limit(&limiter, "c", 500, 100),
    ];
    let values: [&[u8]; 3] = [b"ann", b"phone", b"10.0.0.1"];
    let consumed = [const { AtomicUsize::new(0) }; 3];
    // In every order, so that locks taken in the order of the charges would meet crosswise.
    let plans: [&[usize]; THREADS] = [
        &[0, 1, 2],
        &[2, 1, 0],
        &[1, 0],
        &[0, 2],
        &[2, 0],
        &[1],
        &[0, 1],
        &[2, 1],
    ];
    race(|thread| {
        let charges: Vec<(&Limit, &[u8])> = plans[thread]
            .iter()
            .map(|i| (&limits[*i], values[*i]))
            .collect();
        let admitted = admitted(&limiter, &charges, 0, 1_000);
        for index in plans[thread] {
            consumed[*index].fetch_add(admitted, SeqCst);
        }
        admitted
    });
    for ((limit, value), consumed) in limits.iter().zip(values).zip(consumed) {
        let current = limiter.peek(limit, value, Nanos(0)).current;
        assert_eq!(current as usize, consumed.into_inner());
    }
    // Whoever charges one limit alone takes all that is left of it.
    assert_eq!(limiter.peek(&limits[1], values[1], Nanos(0)).remaining, 0);
}

#[test]
fn sweeps_and_figures_beside_checks_lose_no_count() {
    let limiter = Limiter::new(caps(4, 100_000, 1_000_000));
    let limit = limit(&limiter, "limit", 50, 1_000);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                limiter.sweep(Nanos(0), 17);
                assert!(limiter.stats().entries <= 1_000_000);
            }
        });
        let total = race(|_| {
            let values = (0..200).map(|i: u32| i.to_string());
            values
                .map(|value| admitted(&limiter, &[(&limit, value.as_bytes())], 0, 20))
                .sum()
        });
        stop.store(true, SeqCst);
        assert_eq!(total, 200 * 50);
    });
    let stats = limiter.stats();
    assert_eq!((stats.windows, stats.entries), (200, 10_000));
}

#[test]
fn caps_hold_whoever_races_for_them() {
    for (max_keys, max_entries) in [(1_000, 10_000), (100_000, 3_000)] {
        let limiter = Limiter::new(caps(4, max_keys, max_entries));
        let limit = limit(&limiter, "limit", 100, 1_000);
        let total = race(|thread| {
            let values = (0..1_000).map(|i| format!("{thread}/{i}"));
            values
                .map(|value| admitted(&limiter, &[(&limit, value.as_bytes())], 0, 5))
                .sum()
        });
        let stats = limiter.stats();
        assert_eq!(stats.entries, total);
        assert!(stats.windows <= max_keys && total <= max_entries);
        assert!(stats.windows == max_keys || total + 64 > max_entries);
    }
}
