//! Functions that run here for other nodes, each under the key of its call, and calls that were revoked.
//!
//! Who calls may stop waiting before it knows the process of its function. It then revokes the call by its key.
//! Nothing says which of the two arrives first, the call or its end: so a key that is not there yet is
//! remembered, and the function that comes with it later does not begin.
//!
//! A process that is killed does not leave. Its row goes when the rows of its shard have doubled since they were
//! last looked through, so that those of the dead are never more than those of the living, and a few.
//!
//! ```
//! use gen_api_core::call_table::{CallTable, CallKey};
//! use gen_api_core::clock::Nanos;
//!
//! let calls = CallTable::new();
//! let (late, early) = (CallKey(1, 1), CallKey(1, 2));
//! let alive = |_process| true;
//! assert!(calls.enter(late, "process 1", alive));
//! assert_eq!(calls.revoke(late, Nanos::ZERO), Some("process 1"));
//! assert_eq!(calls.revoke(early, Nanos::ZERO), None);
//! assert!(!calls.enter(early, "process 2", alive));
//! calls.leave(late);
//! assert_eq!(calls.size(alive), (0, 0));
//! ```

use std::fmt;

use hashlink::LinkedHashMap;

use crate::clock::Nanos;
use crate::sync::{AHashMap, Mutex, RandomState};

const SHARDS: usize = 16;

/// How many revoked calls each shard remembers. Those revoked first are forgotten first.
const REVOKED_PER_SHARD: usize = 4_096;

/// How long a revoked call is remembered: longer than the two can be apart on one connection.
const REVOKED_FOR: Nanos = Nanos::from_secs(60);

/// With fewer rows than this a shard is not looked through for those of dead processes.
const MIN_ROWS: usize = 64;

/// What names a call among those of all nodes: something that its node has drawn at its start, and a number there.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallKey(pub u64, pub u64);

/// The calls that run here; `P` names the process of one. At most 65,536 revoked ones are remembered (4,096 in
/// each of 16 shards), for a minute: older ones go with the next that comes to their shard.
pub struct CallTable<P> {
    shards: Box<[Mutex<Shard<P>>]>,
    revoked_per_shard: usize,
    hasher: RandomState,
}

struct Shard<P> {
    running: AHashMap<CallKey, P>,
    /// At how many rows those of the dead are dropped next.
    full: usize,
    revoked: LinkedHashMap<CallKey, Nanos, RandomState>,
}

impl<P> CallTable<P> {
    /// Nothing runs yet.
    #[must_use]
    pub fn new() -> Self {
        Self::with_shape(SHARDS, REVOKED_PER_SHARD)
    }

    /// With as many shards, at least one, and as many revoked calls in each.
    #[must_use]
    pub fn with_shape(shards: usize, revoked_per_shard: usize) -> Self {
        let shards = (0..shards.max(1)).map(|_| Mutex::new(Shard::new()));
        Self {
            shards: shards.collect(),
            revoked_per_shard,
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, key: CallKey) -> Option<&Mutex<Shard<P>>> {
        let hash = self.hasher.hash_one(key);
        // The maps use the low bits.
        let index = (hash >> 32) % (self.shards.len() as u64);
        self.shards.get(index as usize)
    }
}

impl<P: Copy> CallTable<P> {
    /// A call begins in this process: whether it may; if it has been revoked already, that is forgotten now.
    #[must_use]
    pub fn enter(&self, key: CallKey, process: P, alive: impl Fn(P) -> bool) -> bool {
        let Some(shard) = self.shard(key) else {
            return true;
        };
        let mut shard = shard.lock();
        if shard.revoked.remove(&key).is_some() {
            return false;
        }
        if shard.running.len() >= shard.full {
            shard.drop_dead(alive);
        }
        shard.running.insert(key, process);
        true
    }

    /// A call has ended.
    pub fn leave(&self, key: CallKey) {
        if let Some(shard) = self.shard(key) {
            shard.lock().running.remove(&key);
        }
    }

    /// Nobody waits for this call any more: its process, which is to be killed, or none if it has not begun. It
    /// may also have ended.
    pub fn revoke(&self, key: CallKey, now: Nanos) -> Option<P> {
        let mut shard = self.shard(key)?.lock();
        if let Some(process) = shard.running.remove(&key) {
            return Some(process);
        }
        shard.remember(key, now, self.revoked_per_shard);
        None
    }

    /// The processes of the calls that run, after a look at each.
    pub fn running(&self, alive: impl Fn(P) -> bool) -> Vec<P> {
        self.shards
            .iter()
            .flat_map(|shard| {
                let mut shard = shard.lock();
                shard.drop_dead(&alive);
                shard.running.values().copied().collect::<Vec<_>>()
            })
            .collect()
    }

    /// How many calls run, after a look at each, and how many revoked ones are remembered.
    pub fn size(&self, alive: impl Fn(P) -> bool) -> (usize, usize) {
        self.shards
            .iter()
            .fold((0, 0), |(running, revoked), shard| {
                let mut shard = shard.lock();
                shard.drop_dead(&alive);
                (running + shard.running.len(), revoked + shard.revoked.len())
            })
    }
}

impl<P> Default for CallTable<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> fmt::Debug for CallTable<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallTable({} shards)", self.shards.len())
    }
}

impl<P> Shard<P> {
    fn new() -> Self {
        Self {
            running: AHashMap::default(),
            full: MIN_ROWS,
            revoked: LinkedHashMap::with_hasher(RandomState::new()),
        }
    }

    fn remember(&mut self, key: CallKey, now: Nanos, most: usize) {
        self.revoked.insert(key, now);
        while let Some((_, at)) = self.revoked.front() {
            if self.revoked.len() <= most && now.saturating_sub(*at) < REVOKED_FOR {
                break;
            }
            self.revoked.pop_front();
        }
    }
}

impl<P: Copy> Shard<P> {
    fn drop_dead(&mut self, alive: impl Fn(P) -> bool) {
        self.running.retain(|_key, process| alive(*process));
        let left = self.running.len();
        if left < self.running.capacity() / 4 {
            self.running.shrink_to(2 * left);
        }
        self.full = MIN_ROWS.max(2 * left);
    }
}
