//! Models of what threads do to each other, each run in every order that matters; how to run them is in
//! `CONTRIBUTING.md`. They drive the public functions, whose locks and atomics are loom's here (`src/sync.rs`).
#![cfg(loom)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod breaker;
mod call_table;
mod circuits;
mod limiter;
mod limits;
mod nodes;
mod relay;
mod sticky;
mod table;
mod worker_pool;

use std::sync::Arc;

/// Runs a model in every order with at most three switches away from a thread that could go on, or as many as
/// `LOOM_MAX_PREEMPTIONS` says: seconds for all models with three, a minute with four.
fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.max_branches = 100_000;
    builder.check(model);
}

/// Does all of it at once, a thread each, the last in this one.
fn race<S, T, const N: usize>(shared: &Arc<S>, works: [fn(&S) -> T; N]) -> [T; N]
where
    S: Send + Sync + 'static,
    T: Send + 'static,
{
    let mut works = works.into_iter();
    let last = works.next_back().unwrap();
    let others: Vec<_> = works
        .map(|work| {
            let shared = Arc::clone(shared);
            loom::thread::spawn(move || work(&shared))
        })
        .collect();
    let last = last(shared);
    let others = others.into_iter().map(|thread| thread.join().unwrap());
    let all: Vec<T> = others.chain([last]).collect();
    all.try_into().unwrap_or_else(|_| unreachable!())
}
