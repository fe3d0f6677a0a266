//! Node selection against naive models, pinned vectors and statistics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod candidate_set;
mod modes;
mod registry;
mod rendezvous;
mod round_robin;
mod sticky;

use gen_api_core::nodes::{Candidates, Selector, StickyLimits};

fn selector() -> Selector {
    Selector::new(StickyLimits::default())
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("shop{i}@10.0.0.{i}")).collect()
}

fn candidates(selector: &Selector, names: &[String]) -> Candidates {
    Candidates::new(selector.registry(), names.iter().map(String::as_str))
}

#[test]
fn an_instance_is_shared_between_threads() {
    fn shareable<T: Send + Sync + 'static>() {}
    shareable::<Selector>();
    shareable::<Candidates>();
    shareable::<gen_api_core::nodes::Mode>();
    shareable::<gen_api_core::nodes::Flight>();
}

/// Pearson's statistic, for equal or unequal expectations.
fn chi_square(observed: &[u64], expected: &[f64]) -> f64 {
    assert_eq!(observed.len(), expected.len());
    let term = |(&o, &e): (&u64, &f64)| (o as f64 - e).powi(2) / e;
    observed.iter().zip(expected).map(term).sum()
}

/// The value that the statistic exceeds once in 100,000 runs (Wilson and Hilferty's approximation).
fn chi_square_limit(cells: usize) -> f64 {
    let k = (cells - 1) as f64;
    let spread = 2.0 / (9.0 * k);
    k * (1.0 - spread + 4.265 * spread.sqrt()).powi(3)
}
