//! Algorithms and hot shared state of phoenix_gen_api.

pub mod clock;
pub mod nodes;
