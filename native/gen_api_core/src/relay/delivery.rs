//! A message is sent to its recipients a slice at a time, and never under a lock.

use super::index::Relay;
use super::outcome::FanOut;
use super::slow_consumers::SAMPLE_EVERY;
use crate::clock::Nanos;
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::sync::ArcSwapOption;
use ahash::AHashSet;
use std::hash::Hash;
use std::sync::Arc;

/// How long one slice may take.
const SLICE: Nanos = Nanos(400_000);

/// After so many messages at most the clock is asked. A message may be large, so the first one shows after how
/// many.
const STRETCH: usize = 64;

/// Where the messages of one publish still have to go. Nowhere in the end: who has sent may not
/// collect garbage for long, and would keep a list of its own of a group that changes.
#[derive(Debug)]
pub struct Delivery<H> {
    to: ArcSwapOption<FanOut<H>>,
    next: AtomicUsize,
}

impl<H> Delivery<H> {
    /// To all of these, who have got nothing yet.
    pub fn new(to: FanOut<H>) -> Self {
        Self {
            to: ArcSwapOption::new(Some(Arc::new(to))),
            next: AtomicUsize::new(0),
        }
    }
}

/// What became of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice<H> {
    /// Whether there are recipients left.
    pub more: bool,
    /// Recipients that nothing was sent to, because they are slow.
    pub dropped: usize,
    /// Some of the others, to be looked at.
    pub sample: Vec<H>,
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// From now on nothing is sent to these.
    pub fn set_slow(&self, ids: AHashSet<H>) {
        self.slow.set(ids);
    }

    /// Goes on with a delivery for some hundred microseconds: has `send` send to recipients, whose forms it gets
    /// as the numbers of lanes.
    pub fn deliver(
        &self,
        delivery: &Delivery<H>,
        now: impl Fn() -> Nanos,
        mut send: impl FnMut(H, u32),
    ) -> Slice<H> {
        let mut slice = Slice {
            more: false,
            dropped: 0,
            sample: Vec::new(),
        };
        let Some(to) = delivery.to.load_full() else {
            return slice;
        };
        let recipients = &to.recipients;
        let first = delivery.next.load(Relaxed);
        let slow = self.slow.current();
        let started = now();
        let offset = self.slow.first_sample(started);
        let mut sample_at = offset.map_or(usize::MAX, |at| first.saturating_add(at));
        let (mut next, mut stretch) = (first, 1);
        while next < recipients.len() {
            for recipient in recipients.slice(next, stretch) {
                if next == sample_at {
                    slice.sample.push(recipient.to);
                    sample_at = sample_at.saturating_add(SAMPLE_EVERY);
                }
                next += 1;
                if !slow.is_empty() && slow.contains(&recipient.to) {
                    slice.dropped += 1;
                } else {
                    send(recipient.to, recipient.lane);
                }
            }
            let spent = now().saturating_sub(started);
            if spent > SLICE {
                break;
            }
            stretch = affordable(spent, next - first);
        }
        delivery.next.store(next, Relaxed);
        slice.more = next < recipients.len();
        if !slice.more {
            delivery.to.store(None);
        }
        if !slice.sample.is_empty() {
            self.slow.sampled(started, slice.sample.len());
        }
        slice
    }
}

/// How many more recipients fit, after so many have taken that time.
fn affordable(spent: Nanos, sent: usize) -> usize {
    let sent = u64::try_from(sent).unwrap_or(u64::MAX).max(1);
    let each = (spent.0 / sent).max(1);
    let fit = SLICE.saturating_sub(spent).0 / each;
    usize::try_from(fit).unwrap_or(usize::MAX).clamp(1, STRETCH)
}
