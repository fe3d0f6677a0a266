//! The limiter against a naive log, threads and floods.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod caps;
mod limits;
mod model;
mod oracle;
mod threads;
mod window;

use gen_api_core::clock::Nanos;
use gen_api_core::limiter::{Caps, Decision, Limit, Limiter, Rule, SlidingWindow};

fn rule(max_requests: u32, window: u64) -> Rule {
    Rule::SlidingWindow(SlidingWindow::new(max_requests, Nanos(window)).unwrap())
}

fn limit(limiter: &Limiter, name: &str, max_requests: u32, window: u64) -> Limit {
    limiter.limit(name.as_bytes(), rule(max_requests, window))
}

fn caps(shards: usize, max_keys: usize, max_entries: usize) -> Caps {
    Caps {
        shards,
        max_keys,
        max_entries,
    }
}

fn check(limiter: &Limiter, limit: &Limit, value: &str, now: u64) -> Decision {
    limiter.check(&[(limit, value.as_bytes())], Nanos(now))
}

fn denied(index: usize, retry_after: u64, current: u32) -> Decision {
    Decision::Denied {
        index,
        retry_after: Nanos(retry_after),
        current,
    }
}

/// One whole sweep, and the rest of one begun before.
fn sweep_all(limiter: &Limiter, now: u64) -> usize {
    let mut windows = 0;
    for _ in 0..2 {
        let mut more = true;
        while more {
            let swept = limiter.sweep(Nanos(now), 3);
            windows += swept.windows;
            more = swept.more;
        }
    }
    windows
}
