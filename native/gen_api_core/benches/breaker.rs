//! Cost of a breaker and of a slot: `cargo bench -p gen_api_core --bench breaker`.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, Criterion};
use gen_api_core::breaker::{Breaker, Check, FailureRate, Outcome, Settings};
use gen_api_core::clock::Nanos;
use gen_api_core::worker_pool::{Admission, End, Kind, Tasks};

const NOW: Nanos = Nanos(1);

fn settings(rate: bool) -> Settings {
    Settings {
        threshold: u32::MAX,
        failure_rate: rate.then_some(FailureRate {
            failures: 101,
            window: 100,
        }),
        ..Settings::default()
    }
}

fn breakers(c: &mut Criterion) {
    for (name, rate) in [("count", false), ("count_and_rate", true)] {
        let breaker = Breaker::new(settings(rate));
        for (outcomes, every) in [("successes", u32::MAX), ("one_failure_in_4", 4)] {
            let mut n = 0u32;
            c.bench_function(&format!("check_and_record/{name}/{outcomes}"), |b| {
                b.iter(|| {
                    n = n.wrapping_add(1);
                    let outcome = if n.is_multiple_of(every) {
                        Outcome::Failure
                    } else {
                        Outcome::Success
                    };
                    if let Check::Allow(permit) = breaker.check(black_box(NOW)) {
                        black_box(breaker.record(permit, outcome, NOW));
                    }
                });
            });
        }
    }
    let open = Breaker::new(Settings {
        threshold: 1,
        ..settings(false)
    });
    if let Check::Allow(permit) = open.check(NOW) {
        open.record(permit, Outcome::Failure, NOW);
    }
    c.bench_function("check/open", |b| {
        b.iter(|| black_box(open.check(black_box(NOW))));
    });
}

fn slots(c: &mut Criterion) {
    let pool = Tasks::<u64>::new(1_000, 10_000, settings(false));
    c.bench_function("admit_enter_finish", |b| {
        b.iter(|| {
            if let Admission::Accepted(ticket) = pool.admit(Kind::Counted, None, NOW) {
                pool.enter(&ticket, 1, NOW);
                black_box(pool.finish(&ticket, End::Returned, NOW));
            }
        });
    });
}

criterion_group!(benches, breakers, slots);
criterion_main!(benches);
