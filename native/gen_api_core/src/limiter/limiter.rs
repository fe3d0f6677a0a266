use crossbeam_utils::CachePadded;
use std::mem::size_of;

use super::hasher::Hasher;
use super::limit::{Limit, LimitId, LimitRegistry};
use super::pool::Pool;
use super::rule::Rule;
use super::shard::Shard;
use crate::clock::Nanos;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::Mutex;

/// Windows swept under one lock, so that no check waits long for a sweep.
const WINDOWS_PER_LOCK: usize = 64;
/// More shards than this would cost more than they spare.
const MAX_SHARDS: usize = 4_096;

/// How a limiter is cut, and how much it may hold.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Number of locks; rounded up to a power of two. Changes no result. Some KB each.
    pub shards: usize,
    /// Most windows per limit.
    pub max_keys: usize,
    /// Most recorded requests in all.
    pub max_entries: usize,
}

impl Default for Caps {
    /// 64 shards, 1,000,000 keys, 16,000,000 entries.
    fn default() -> Self {
        Self {
            shards: 64,
            max_keys: 1_000_000,
            max_entries: 16_000_000,
        }
    }
}

/// How far a limit is used by a value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Requests that count.
    pub current: u32,
    /// Requests that would be admitted now.
    pub remaining: u32,
    /// Time until one would be admitted.
    pub retry_after: Nanos,
}

/// What a slice of a sweep did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Windows removed.
    pub windows: usize,
    /// Whether the sweep has not seen every window yet.
    pub more: bool,
}

/// What a limiter holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Windows, expired ones that were not reclaimed yet included.
    pub windows: usize,
    /// Recorded requests, expired ones that were not reclaimed yet included.
    pub entries: usize,
    /// Checks that found no room, so far.
    pub overflowed: u64,
    /// Memory in bytes, without the allocator's own overhead.
    pub bytes: usize,
}

/// An instance of all state: windows by limit and value.
///
/// Limits are compiled with [`Limiter::limit`] and belong to the limiter that compiled them. The time is a
/// parameter and has to come from one monotonic clock. A window's time never runs backwards: a request with a
/// time before that of the last one in its window counts as made together with that one.
#[derive(Debug)]
pub struct Limiter {
    pub(super) shards: Box<[ShardLock]>,
    pub(super) hasher: Hasher,
    registry: LimitRegistry,
    pub(super) pool: Pool,
    pub(super) caps: Caps,
    pub(super) overflowed: AtomicU64,
    /// The shard that a sweep is at.
    sweeping: Mutex<usize>,
    /// The shard asked last for idle credits.
    pub(super) asked: AtomicUsize,
}

/// On cache lines of its own, or two locks would slow each other down.
pub(super) type ShardLock = CachePadded<Mutex<Shard>>;

impl Limiter {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(caps: Caps) -> Self {
        let shards = caps.shards.clamp(1, MAX_SHARDS).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| ShardLock::default()).collect(),
            hasher: Hasher::new(shards),
            registry: LimitRegistry::default(),
            pool: Pool::new(caps.max_entries, shards),
            caps,
            overflowed: AtomicU64::new(0),
            sweeping: Mutex::new(0),
            asked: AtomicUsize::new(0),
        }
    }

    /// Compiles a limit. Limits of the same name and length of window share their windows, so a limit may be
    /// replaced by one with another number of requests and keeps its counts.
    #[must_use]
    pub fn limit(&self, name: &[u8], rule: Rule) -> Limit {
        self.registry.limit(name, rule)
    }

    /// Removes a limit: a new one of the same name starts with no counts, and sweeps drop the windows of this
    /// one. Whether there was one. Checks that still use it are decided as before.
    pub fn forget(&self, limit: LimitId) -> bool {
        self.registry.forget(limit)
    }

    /// How far a limit is used by a value; records nothing.
    pub fn peek(&self, limit: &Limit, value: &[u8], now: Nanos) -> Status {
        let hashed = self.hasher.hash(limit.id(), value);
        let (current, probe) = match self.shards.get(hashed.shard) {
            Some(slot) => {
                let shard = slot.lock();
                let current = shard.current(hashed, limit, value, now);
                (current, shard.probe(hashed, limit, value, now, 0).err())
            }
            None => (0, None),
        };
        let current = u32::try_from(current).unwrap_or(u32::MAX);
        Status {
            current,
            remaining: limit.rule().capacity().saturating_sub(current),
            retry_after: probe.map_or(Nanos::ZERO, |denial| denial.retry_after),
        }
    }

    /// Forgets the requests of a value under a limit; whether there was a window.
    pub fn reset(&self, limit: &Limit, value: &[u8]) -> bool {
        let hashed = self.hasher.hash(limit.id(), value);
        self.shards.get(hashed.shard).is_some_and(|slot| {
            slot.lock()
                .reset(hashed, limit, value, &self.hasher, &self.pool)
        })
    }

    /// Forgets all requests; returns how many windows there were. Takes some 50 ns for each, but no check
    /// waits for it.
    pub fn clear(&self) -> usize {
        self.shards
            .iter()
            .map(|slot| {
                let taken = slot.lock().take(&self.pool);
                taken.free(&self.pool)
            })
            .sum()
    }

    /// Reclaims windows in which nothing counts any more and the memory of expired requests, going on where
    /// the last call stopped. Looks at no more than `budget` windows, where 8,192 expired requests of one
    /// window are worth a window; some 50 ns each. The result says whether there is more to do.
    pub fn sweep(&self, now: Nanos, budget: usize) -> Swept {
        let mut at = self.sweeping.lock();
        let (mut left, mut windows) = (budget, 0);
        while let Some(slot) = self.shards.get(*at) {
            if left == 0 {
                return Swept {
                    windows,
                    more: true,
                };
            }
            let slice = left.min(WINDOWS_PER_LOCK);
            let swept = slot.lock().sweep(now, slice, &self.hasher, &self.pool);
            left -= swept.seen;
            windows += swept.dropped;
            *at += usize::from(swept.next == 0);
        }
        *at = 0;
        Swept {
            windows,
            more: false,
        }
    }

    /// What it holds; visits every shard.
    pub fn stats(&self) -> Stats {
        let (mut windows, mut credit) = (0, self.pool.left());
        let mut bytes = size_of::<Self>() + self.shards.len() * size_of::<ShardLock>();
        for slot in &self.shards {
            let shard = slot.lock();
            windows += shard.len();
            credit += shard.idle_credit();
            bytes += shard.bytes();
        }
        Stats {
            windows,
            entries: self.caps.max_entries.saturating_sub(credit),
            overflowed: self.overflowed.load(Relaxed),
            bytes,
        }
    }
}
