//! What windows really cost, by the allocator's account. Alone in its program, because it counts every byte.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::alloc::System;

use gen_api_core::clock::Nanos;
use gen_api_core::limiter::{Caps, Limiter, Rule, SlidingWindow};
use stats_alloc::{Region, StatsAlloc, INSTRUMENTED_SYSTEM};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SECOND: Nanos = Nanos::from_secs(1);

/// Bytes per value with `requests` each, by the allocator and by the limiter itself.
fn bytes_per_value(values: usize, requests: u64, value_len: usize) -> (f64, f64) {
    let limiter = Limiter::new(Caps::default());
    let empty = limiter.stats().bytes;
    let rule = SlidingWindow::new(1_000_000, SECOND).unwrap();
    let limit = limiter.limit(b"limit", Rule::SlidingWindow(rule));
    let region = Region::new(ALLOCATOR);
    let mut value = vec![b'v'; value_len];
    for i in 0..values as u64 {
        value[..8].copy_from_slice(&i.to_ne_bytes());
        for now in 0..requests {
            limiter.check(&[(&limit, &value)], Nanos(now));
        }
    }
    let change = region.change();
    let held =
        change.bytes_allocated as isize - change.bytes_deallocated as isize - value_len as isize;
    let own = limiter.stats().bytes - empty;
    (held as f64 / values as f64, own as f64 / values as f64)
}

#[test]
fn windows_take_no_more_memory_than_promised() {
    println!("values, requests each, length: bytes per value, as reported");
    for values in [70_000, 100_000, 130_000] {
        for requests in [1, 8] {
            for value_len in [12, 36, 64] {
                let (held, own) = bytes_per_value(values, requests, value_len);
                println!("{values} {requests} {value_len}: {held:.1} {own:.1}");
                assert!(held <= 160.0 + value_len as f64);
                assert!((held - own).abs() <= held / 100.0);
            }
        }
    }
    for (values, requests) in [
        (20_000, 9),
        (10_000, 30),
        (2_000, 100),
        (2_000, 400),
        (300, 2_000),
        (30, 20_000),
        (1, 1_000_000),
    ] {
        let (held, own) = bytes_per_value(values, requests, 12);
        let each = held / requests as f64;
        println!("{values} {requests}: {held:.0} {own:.0}; {each:.2} per request");
        assert!((held - own).abs() <= held / 50.0 + 1_000.0);
        if requests >= 2_000 {
            assert!(each <= 8.0);
        }
        assert!(held <= 160.0 + 12.0 + 12.0 * requests as f64 + 2_000.0 / values as f64);
    }
}
