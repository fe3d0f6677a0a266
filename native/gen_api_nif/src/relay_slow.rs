//! Recipients that cannot keep up.

use crate::decode::List;
use crate::relay::RelayResource;
use ahash::AHashSet;
use arc_swap::ArcSwap;
use rustler::types::atom;
use rustler::{Atom, LocalPid};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// The time between two looks, if recipients are sent to faster than that: a look costs as much as several
/// messages, and delays those that are on their way. Even who sends all the time then sends a recipient no
/// more than some thousand messages between two looks.
const LOOK_EVERY_NS: u64 = 500_000;

/// Whom messages are not sent to for the time being.
pub struct Slow {
    // A snapshot each: a fan-out looks once and waits for nobody.
    pub pids: ArcSwap<AHashSet<LocalPid>>,
    /// Slices so far of which some could be looked at.
    slices: AtomicUsize,
    since: Instant,
    /// When recipients may be looked at again, in nanoseconds from `since`.
    next_look: AtomicU64,
}

impl Slow {
    /// One recipient of so many is looked at.
    pub const SAMPLED: usize = 256;

    pub fn new() -> Self {
        Self {
            pids: ArcSwap::default(),
            slices: AtomicUsize::new(0),
            since: Instant::now(),
            next_look: AtomicU64::new(0),
        }
    }

    /// The first recipient to look at, for a slice that begins now, if it is time to.
    pub fn first_look(&self, now: u64) -> Option<usize> {
        if now < self.next_look.load(Ordering::Relaxed) {
            return None;
        }
        // Another place of each stretch every time, or some recipients would never be looked at.
        let slice = self.slices.fetch_add(1, Ordering::Relaxed);
        Some((slice.wrapping_mul(0x9E37_79B9) >> 8) % Self::SAMPLED)
    }

    pub fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.since).as_nanos()).unwrap_or(u64::MAX)
    }

    /// So many have been looked at. Two slices at once may both have looked.
    pub fn looked(&self, now: u64, looks: usize) {
        let pause = LOOK_EVERY_NS.saturating_mul(u64::try_from(looks).unwrap_or(u64::MAX));
        self.next_look
            .store(now.saturating_add(pause), Ordering::Relaxed);
    }
}

/// From now on nothing is sent to these. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_slow(relay: &RelayResource, pids: List<LocalPid>) -> Atom {
    let pids = pids.0.into_iter().collect::<AHashSet<_>>();
    relay.1.pids.store(std::sync::Arc::new(pids));
    atom::ok()
}
