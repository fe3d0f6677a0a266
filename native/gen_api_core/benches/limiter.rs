//! Cost of one rate limit check: `cargo bench -p gen_api_core --bench limiter`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{criterion_group, criterion_main, Criterion};
use gen_api_core::clock::Nanos;
use gen_api_core::limiter::{Caps, Decision, Limit, Limiter, Rule, SlidingWindow};

const KEYS: usize = 100_000;
const MINUTE: u64 = 60_000_000_000;

fn limit(limiter: &Limiter, name: &str, max_requests: u32, window: u64) -> Limit {
    let rule = SlidingWindow::new(max_requests, Nanos(window)).unwrap();
    limiter.limit(name.as_bytes(), Rule::SlidingWindow(rule))
}

fn values(count: usize, prefix: &str) -> Vec<String> {
    // In an order that no prefetcher guesses.
    (0..count)
        .map(|i| format!("{prefix}_{:07}", i * 7_919 % count))
        .collect()
}

/// Values one after the other, at times that leave about six requests in each window.
fn live_keys(c: &mut Criterion) {
    for (name, max_requests) in [("admitted", 100), ("denied", 2)] {
        let limiter = Limiter::new(Caps::default());
        let limit = limit(&limiter, "user", max_requests, MINUTE);
        let users = values(KEYS, "user");
        let (mut i, mut now) = (0, 0);
        let mut next = || {
            i = (i + 1) % KEYS;
            now += 100_000;
            limiter.check(&[(&limit, users[i].as_bytes())], Nanos(now))
        };
        (0..6 * KEYS).for_each(|_| {
            next();
        });
        c.bench_function(&format!("check/100000_keys/{name}"), |b| b.iter(&mut next));
        assert_eq!(limiter.stats().windows, KEYS);
    }
}

/// One value: each check finds `full` requests in the window, of which the oldest has just expired.
fn full_windows(c: &mut Criterion) {
    for full in [0u64, 1, 8, 100, 2_000, 20_000, 1_000_000] {
        let limiter = Limiter::new(Caps::default());
        let limit = limit(&limiter, "user", full.max(1) as u32, 1_000 * full.max(1));
        let step = if full == 0 { 2_000 } else { 1_000 };
        let mut now = 0;
        let mut next = || {
            now += step;
            limiter.check(&[(&limit, black_box(b"user_0000001"))], Nanos(now))
        };
        (0..2 * full).for_each(|_| assert_eq!(next(), Decision::Admitted));
        c.bench_function(&format!("full_window/{full}/admitted"), |b| {
            b.iter(&mut next)
        });
        c.bench_function(&format!("full_window/{full}/denied"), |b| {
            b.iter(|| limiter.check(&[(&limit, black_box(b"user_0000001"))], Nanos(now)))
        });
    }
}

fn several_limits(c: &mut Criterion) {
    let limiter = Limiter::new(Caps::default());
    let limits = [
        limit(&limiter, "a", 100, MINUTE),
        limit(&limiter, "b", 100, MINUTE),
        limit(&limiter, "c", 100, MINUTE),
    ];
    let users = values(KEYS, "user");
    let devices = values(KEYS, "device");
    let ips = values(KEYS, "ip");
    let (mut i, mut now) = (0, 0);
    let mut run = |name: &str, count: usize, one_value: bool| {
        let mut next = || {
            i = (i + 1) % KEYS;
            now += 100_000;
            let user = users[i].as_bytes();
            let (device, ip) = if one_value {
                (user, user)
            } else {
                (devices[i].as_bytes(), ips[i].as_bytes())
            };
            let charges = [(&limits[0], user), (&limits[1], device), (&limits[2], ip)];
            limiter.check(&charges[..count], Nanos(now))
        };
        (0..KEYS).for_each(|_| {
            next();
        });
        c.bench_function(&format!("limits/{name}"), |b| b.iter(&mut next));
    };
    run("1", 1, true);
    run("3_of_one_value", 3, true);
    run("3_of_three_values", 3, false);
}

/// Nanoseconds per check of one thread while `threads` are at work.
fn threads(c: &mut Criterion) {
    for (name, threads, shared) in [
        ("1_on_one_key", 1, true),
        ("2_on_one_key", 2, true),
        ("1_on_many_keys", 1, false),
        ("2_on_distinct_keys", 2, false),
    ] {
        c.bench_function(&format!("threads/{name}"), |b| {
            b.iter_custom(|checks| {
                let limiter = Limiter::new(Caps::default());
                let limit = limit(&limiter, "user", 1_000, MINUTE);
                let start = Barrier::new(threads);
                let work = |thread: usize| {
                    let users = values(1_000, &format!("user{thread}"));
                    start.wait();
                    let begin = Instant::now();
                    for i in 0..checks {
                        let user = if shared {
                            "user"
                        } else {
                            &users[i as usize % 1_000]
                        };
                        black_box(
                            limiter.check(&[(&limit, user.as_bytes())], Nanos(i * MINUTE / 500)),
                        );
                    }
                    begin.elapsed()
                };
                thread::scope(|scope| {
                    let running: Vec<_> = (0..threads)
                        .map(|thread| {
                            scope.spawn({
                                let work = &work;
                                move || work(thread)
                            })
                        })
                        .collect();
                    let spent = running.into_iter().map(|thread| thread.join().unwrap());
                    spent.max().unwrap()
                })
            });
        });
    }
}

/// The longest single check when a million requests have expired at once.
fn mass_expiry(c: &mut Criterion) {
    c.bench_function("mass_expiry/longest_of_200_checks", |b| {
        b.iter_custom(|rounds| {
            let mut longest = Duration::ZERO;
            for _ in 0..rounds.min(3) {
                let limiter = Limiter::new(Caps::default());
                let limit = limit(&limiter, "user", 1_000_000, MINUTE);
                let check = |now| {
                    let begin = Instant::now();
                    assert_eq!(
                        limiter.check(&[(&limit, b"user")], Nanos(now)),
                        Decision::Admitted
                    );
                    begin.elapsed()
                };
                (0..1_000_000).for_each(|now| {
                    check(now);
                });
                let worst = (0..200).map(|i| check(2 * MINUTE + i)).max();
                longest = longest.max(worst.unwrap_or_default());
            }
            longest * rounds as u32
        });
    });
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(30)
}

fn slow() -> Criterion {
    quick().sample_size(10)
}

criterion_group! {
    name = benches;
    config = quick();
    targets = live_keys, full_windows, several_limits, threads
}
criterion_group! {
    name = rare;
    config = slow();
    targets = mass_expiry
}
criterion_main!(benches, rare);
