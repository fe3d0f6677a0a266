//! The algorithms and the hot shared state of `phoenix_gen_api`.
//!
//! Nothing here knows what an Erlang term, a process or a socket is: arguments are seen
//! through the [`value::Value`] trait, results are made through [`value::Build`], time is a
//! parameter. So all of it is tested, model-checked and benchmarked by plain cargo.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod address;
pub mod bounded;
pub mod breaker;
pub mod call_table;
pub mod clock;
// Its map has no model: a connection is one counter and one lock.
#[cfg(not(loom))]
pub mod connections;
#[cfg(not(loom))]
pub mod json;
pub mod limiter;
pub mod limits;
pub mod nodes;
pub mod relay;
pub mod retry;
pub mod schema;
mod sync;
pub mod table;
pub mod value;
pub mod worker_pool;
