//! Recipients that cannot keep up.

use crate::clock::Nanos;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{ArcSwap, Guard};
use ahash::AHashSet;
use std::hash::Hash;
use std::sync::Arc;

/// One recipient of so many is sampled.
pub(super) const SAMPLE_EVERY: usize = 256;

/// The time between two looks, if recipients are sent to faster than that: a look costs as much as several
/// messages, and delays those that are on their way. Even who sends all the time then sends a recipient no
/// more than some thousand messages between two looks.
const SAMPLE_PAUSE: Nanos = Nanos(500_000);

/// Whom messages are not sent to for the time being, and when others are to be looked at.
#[derive(Debug)]
pub(super) struct SlowConsumers<H> {
    // A snapshot each: a fan-out looks once and waits for nobody.
    ids: ArcSwap<AHashSet<H>>,
    /// Slices so far of which some could be looked at.
    slices: AtomicUsize,
    next_sample: AtomicU64,
}

impl<H: Eq + Hash> SlowConsumers<H> {
    pub(super) fn new() -> Self {
        Self {
            ids: ArcSwap::from_pointee(AHashSet::default()),
            slices: AtomicUsize::new(0),
            next_sample: AtomicU64::new(0),
        }
    }

    pub(super) fn set(&self, ids: AHashSet<H>) {
        self.ids.store(Arc::new(ids));
    }

    pub(super) fn current(&self) -> Guard<Arc<AHashSet<H>>> {
        self.ids.load()
    }

    /// The first recipient to look at of a slice that begins now, if it is time to.
    pub(super) fn first_sample(&self, now: Nanos) -> Option<usize> {
        if now.0 < self.next_sample.load(Relaxed) {
            return None;
        }
        // Another place of each stretch every time, or some recipients would never be looked at.
        let slice = self.slices.fetch_add(1, Relaxed);
        Some((slice.wrapping_mul(0x9E37_79B9) >> 8) % SAMPLE_EVERY)
    }

    /// So many have been looked at. Two slices at once may both have looked.
    pub(super) fn sampled(&self, now: Nanos, samples: usize) {
        let samples = u64::try_from(samples).unwrap_or(u64::MAX);
        let pause = Nanos(SAMPLE_PAUSE.0.saturating_mul(samples));
        self.next_sample.store(now.saturating_add(pause).0, Relaxed);
    }
}
