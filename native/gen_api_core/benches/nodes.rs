//! Cost of one node selection: `cargo bench -p gen_api_core --bench nodes`.
#![allow(missing_docs)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{criterion_group, criterion_main, Criterion};
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{hash, Candidates, Flight, Mode, Selector, StickyLimits, Weights};

const USER: &[u8] = b"user_1234567";

fn modes(selector: &Selector, candidates: &Candidates) -> Vec<(&'static str, Mode)> {
    let function = b"shop/get_product/1.0.0";
    let sticky = Mode::Sticky {
        function: function.as_slice().into(),
    };
    let weights = Weights::new(candidates, |name| Some(name.len() as u32));
    vec![
        ("random", Mode::Random),
        ("rendezvous", Mode::Rendezvous),
        ("round_robin", Mode::RoundRobin(selector.cursor(function))),
        ("sticky_hit", sticky),
        ("least_busy", Mode::LeastBusy),
        ("weighted", Mode::Weighted(weights)),
    ]
}

fn selection(c: &mut Criterion) {
    c.bench_function("key_hash/12_bytes", |b| {
        b.iter(|| hash::key_hash(black_box(USER)));
    });
    for count in [10usize, 100, 1_000] {
        let selector = Selector::new(StickyLimits::default());
        let names: Vec<String> = (0..count).map(|i| format!("shop@10.0.{i}.7")).collect();
        let candidates = Candidates::new(selector.registry(), names.iter().map(String::as_str));
        // An uneven load, or every node would be tied for the least.
        let flights: Vec<Flight> = candidates
            .iter()
            .enumerate()
            .flat_map(|(i, node)| (0..i % 7).map(|_| Flight::start(Arc::clone(node))))
            .collect();
        for (name, mode) in modes(&selector, &candidates) {
            // Another key each time, or the branch predictor learns the scores by heart.
            let mut user = 0u64;
            let mut key = move || {
                user = (user + 1) % 4_096;
                user.to_ne_bytes()
            };
            c.bench_function(&format!("pick/{name}/{count}"), |b| {
                b.iter(|| {
                    let key = key();
                    selector.pick(&candidates, &mode, Some(black_box(&key)), Nanos(1), |_| {
                        true
                    })
                });
            });
            c.bench_function(&format!("order/{name}/{count}"), |b| {
                b.iter(|| {
                    selector.order(&candidates, &mode, Some(black_box(USER)), Nanos(1), |_| {
                        true
                    })
                });
            });
        }
        let down = count / 2;
        for node in candidates.iter().take(down) {
            node.mark_down();
        }
        for (name, mode) in modes(&selector, &candidates) {
            c.bench_function(&format!("half_down/{name}/{count}"), |b| {
                b.iter(|| {
                    selector.pick(&candidates, &mode, Some(black_box(USER)), Nanos(1), |_| {
                        true
                    })
                });
            });
        }
        drop(flights);
    }
}

fn sticky_full(c: &mut Criterion) {
    let selector = Selector::new(StickyLimits::default());
    let names: Vec<String> = (0..10).map(|i| format!("shop@10.0.{i}.7")).collect();
    let candidates = Candidates::new(selector.registry(), names.iter().map(String::as_str));
    let mode = Mode::Sticky {
        function: b"shop/get_product/1.0.0".as_slice().into(),
    };
    let mut now = 0u64;
    let mut pick = |user: u64| {
        now += 1;
        selector.pick(
            &candidates,
            &mode,
            Some(&user.to_ne_bytes()),
            Nanos(now),
            |_| true,
        )
    };
    for user in 0..100_000 {
        pick(user);
    }
    let mut user = 0u64;
    c.bench_function("sticky/hit_among_100000", |b| {
        b.iter(|| {
            user = (user + 7_919) % 100_000;
            pick(user)
        });
    });
    let mut fresh = 100_000;
    c.bench_function("sticky/new_value_evicts_the_oldest", |b| {
        b.iter(|| {
            fresh += 1;
            pick(fresh)
        });
    });
}

fn quick() -> Criterion {
    Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(800))
        .sample_size(30)
}

criterion_group! {
    name = benches;
    config = quick();
    targets = selection, sticky_full
}
criterion_main!(benches);
