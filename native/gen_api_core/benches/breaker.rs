//! Cost of a breaker and of a slot: `cargo bench -p gen_api_core --bench breaker`.
#![allow(missing_docs)]

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, Criterion};
use gen_api_core::breaker::{Breaker, Caller, Check, Outcome, Settings};
use gen_api_core::clock::Nanos;
use gen_api_core::worker_pool::{Admission, End, Kind, Tasks};

const NOW: Nanos = Nanos(1);

fn settings() -> Settings {
    Settings {
        threshold: u32::MAX,
        ..Settings::default()
    }
}

fn breakers(c: &mut Criterion) {
    for (name, caller) in [("nobody", None), ("caller", Some(Caller(1)))] {
        let breaker = Breaker::new(settings());
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
                        black_box(breaker.record(permit, outcome, caller, NOW));
                    }
                });
            });
        }
    }
    let open = Breaker::new(Settings {
        threshold: 1,
        ..settings()
    });
    if let Check::Allow(permit) = open.check(NOW) {
        open.record(permit, Outcome::Failure, None, NOW);
    }
    c.bench_function("check/open", |b| {
        b.iter(|| black_box(open.check(black_box(NOW))));
    });
}

fn slots(c: &mut Criterion) {
    let pool = Tasks::<u64>::new(1_000, 10_000, settings());
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
