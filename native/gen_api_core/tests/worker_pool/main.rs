//! Pools of slots: one step at a time against a naive model, and under threads.
#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod effects;
mod shares;
mod steps;
mod threads;
