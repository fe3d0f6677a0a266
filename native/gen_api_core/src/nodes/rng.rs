use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use super::hash::mix;

/// SplitMix64: 64 bits of state, any seed is a good seed, passes BigCrush. Not for secrets.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator that always yields the same sequence for the same seed.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in `0..bound`, each equally likely; 0 when `bound` is 0.
    ///
    /// Lemire, "Fast random integer generation in an interval", 2019: the division runs only for the draws
    /// that might have to be rejected, which for small bounds is about never.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        let mut product = u128::from(self.next_u64()) * u128::from(bound);
        if (product as u64) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(bound);
            }
        }
        (product >> 64) as u64
    }

    /// A number in `0.0 < x <= 1.0`, so that its logarithm is finite.
    #[inline]
    pub(super) fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        ((self.next_u64() >> 11) + 1) as f64 * STEP
    }

    /// Puts `items` into an order in which every permutation is equally likely (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(std::thread::current().id()));
}

/// Runs `f` with this thread's generator.
///
/// The state is copied out and back instead of borrowed: should `f` end up here again, the inner call
/// repeats some of the outer draws, and nothing panics.
#[inline]
pub(super) fn with_thread_rng<T>(f: impl FnOnce(&mut Rng) -> T) -> T {
    let mut rng = Rng(STATE.get());
    let result = f(&mut rng);
    STATE.set(rng.0);
    result
}
