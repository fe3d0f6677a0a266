//! The relay against a plain model of its rules, against its permission matrix, and under threads.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod delivery;
mod matrix;
mod model;
mod operations;
mod replication;
mod threads;
mod yielding_lock;

use gen_api_core::relay::{Device, FanOut};

fn device(id: u64) -> Device<'static, u64> {
    Device {
        id,
        to: id + 1_000,
        lane: if id.is_multiple_of(2) { b"" } else { b"odd" },
    }
}

/// Whom a message goes to, in order.
fn recipients(fan: &FanOut<u64>) -> Vec<u64> {
    let mut to: Vec<u64> = fan
        .recipients
        .slice(0, usize::MAX)
        .map(|recipient| recipient.to)
        .collect();
    to.sort_unstable();
    to
}
