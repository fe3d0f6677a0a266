use crossbeam_utils::CachePadded;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::hash::node_hash;
use crate::clock::Nanos;
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicU8, Ordering::Relaxed};
use crate::sync::Mutex;

const DOWN: u8 = 1;
const DRAINING: u8 = 2;
/// Times at which failed calls stop to count as load. Beyond so many they are put off to the next one.
const MAX_ENDS: usize = 1_024;
/// Ends within 262 µs are one.
const END_BITS: u32 = 18;

/// What a node can be used for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum NodeStatus {
    /// Takes calls. A node nobody has tried yet counts as up.
    Up,
    /// Cannot be reached. Wins over [`NodeStatus::Draining`] when both hold.
    Down,
    /// An operator asked for no new calls.
    Draining,
}

/// What becomes of a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum NodeEvent {
    /// It was reached.
    Up,
    /// The connection was lost or could not be made.
    Down,
    /// An operator wants it to take no new calls.
    Drain,
    /// An operator takes that back.
    Undrain,
}

/// One node of the cluster. There is one object per name in a [`Registry`](super::Registry), so two handles
/// are the same node exactly when they are the same pointer.
#[derive(Debug)]
pub struct Node {
    name: Box<str>,
    hash: u64,
    flags: AtomicU8,
    touched: AtomicBool,
    idle_since: AtomicU64,
    /// The load of a node changes with every call, its flags and hash hardly ever; on one line, every call would
    /// take the flags away from all other cores.
    in_flight: CachePadded<AtomicU32>,
    failed: Failed,
}

/// Failed calls that still count as load, by the time until which they do.
#[derive(Debug, Default)]
struct Failed {
    any: AtomicBool,
    ends: Mutex<BTreeMap<u64, u32>>,
}

impl Node {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            hash: node_hash(name),
            flags: AtomicU8::new(0),
            touched: AtomicBool::new(true),
            idle_since: AtomicU64::new(0),
            in_flight: CachePadded::default(),
            failed: Failed::default(),
        }
    }

    /// The name, for instance `shop@10.0.0.7`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its half of every score, see [`hash::node_hash`](super::hash::node_hash).
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Up, down or draining, at this moment.
    #[inline]
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        match self.flags.load(Relaxed) {
            0 => NodeStatus::Up,
            flags if flags & DOWN != 0 => NodeStatus::Down,
            _ => NodeStatus::Draining,
        }
    }

    /// Whether it takes new calls.
    #[inline]
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags.load(Relaxed) == 0
    }

    /// The connection was lost or could not be made. True when it was not down before.
    pub fn mark_down(&self) -> bool {
        self.flags.fetch_or(DOWN, Relaxed) & DOWN == 0
    }

    /// The node was reached. True when it was down before.
    ///
    /// A node that comes back takes calls, also when it was draining: it went down to be restarted. One that
    /// was never down (its first connection, say) stays draining.
    pub fn mark_up(&self) -> bool {
        self.flags
            .fetch_update(Relaxed, Relaxed, |flags| (flags & DOWN != 0).then_some(0))
            .is_ok()
    }

    /// No new calls from now on. True when it was not draining before.
    pub fn drain(&self) -> bool {
        self.flags.fetch_or(DRAINING, Relaxed) & DRAINING == 0
    }

    /// Takes back [`Node::drain`]. True when it was draining before.
    pub fn undrain(&self) -> bool {
        self.flags.fetch_and(!DRAINING, Relaxed) & DRAINING != 0
    }

    /// Calls sent to it that have not ended.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// The calls in flight, and those that failed too fast: each counts for as long as a good one takes, or a node
    /// that fails at once would look idle and get them all.
    #[inline]
    #[must_use]
    pub fn load(&self, now: Nanos) -> u32 {
        let in_flight = self.in_flight();
        if self.failed.any.load(Relaxed) {
            in_flight.saturating_add(self.failed_until(now))
        } else {
            in_flight
        }
    }

    fn failed_until(&self, now: Nanos) -> u32 {
        let mut ends = self.failed.ends.lock();
        let left = ends.split_off(&(now.0 >> END_BITS));
        *ends = left;
        self.failed.any.store(!ends.is_empty(), Relaxed);
        ends.values().fold(0, |sum: u32, n| sum.saturating_add(*n))
    }

    /// A call that has failed counts as load until then.
    pub fn add_failed_load(&self, until: Nanos) {
        let mut ends = self.failed.ends.lock();
        let end = until.0 >> END_BITS;
        let end = if ends.len() < MAX_ENDS {
            end
        } else {
            let next = ends.range(end..).next().or_else(|| ends.iter().next_back());
            next.map_or(end, |(end, _)| *end)
        };
        let count = ends.entry(end).or_default();
        *count = count.saturating_add(1);
        self.failed.any.store(true, Relaxed);
    }

    /// Somebody asked for this node by name. The load first: when the flag is set already, as it nearly always
    /// is, the line stays shared between cores.
    pub(super) fn touch(&self) {
        if !self.touched.load(Relaxed) {
            self.touched.store(true, Relaxed);
        }
    }

    /// Whether it may be forgotten. `held`: something outside the registry points at it.
    pub(super) fn is_forgettable(&self, held: bool, now: Nanos, keep_down: Nanos) -> bool {
        if self.touched.swap(false, Relaxed) || held {
            self.idle_since.store(now.0, Relaxed);
        }
        let idle = now.saturating_sub(Nanos(self.idle_since.load(Relaxed)));
        !held
            && match self.status() {
                NodeStatus::Up => true,
                NodeStatus::Draining => false,
                NodeStatus::Down => idle >= keep_down,
            }
    }
}

/// One call in flight. Counts on its node from [`Flight::start`] until [`Flight::finish`] or until it is
/// dropped, whichever comes first: a caller that dies cannot leave the count too high.
#[derive(Debug)]
pub struct Flight {
    node: Arc<Node>,
    flying: AtomicBool,
}

impl Flight {
    /// Counts one more call on `node`.
    #[must_use]
    pub fn start(node: Arc<Node>) -> Self {
        node.in_flight.fetch_add(1, Relaxed);
        Self {
            node,
            flying: AtomicBool::new(true),
        }
    }

    /// The call has ended. Only the first time counts.
    pub fn finish(&self) {
        if self.flying.swap(false, Relaxed) {
            self.node.in_flight.fetch_sub(1, Relaxed);
        }
    }

    /// The node called.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.finish();
    }
}
