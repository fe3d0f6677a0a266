//! Functions that run here for other nodes, each under the key of its call, and calls that were revoked.
//!
//! Who calls may stop waiting before it knows the process of its function. It then revokes the call by its key.
//! Nothing says which of the two arrives first, the call or its end: so a key that is not there yet is
//! remembered, and the function that comes with it later does not begin.
//!
//! ```
//! use std::sync::Arc;
//! use gen_api_core::callees::{Callees, Key};
//! use gen_api_core::clock::Nanos;
//!
//! let callees = Arc::new(Callees::new());
//! let (late, early) = (Key(1, 1), Key(1, 2));
//! let running = callees.enter(late, "process 1");
//! assert!(running.is_some());
//! assert_eq!(callees.revoke(late, Nanos::ZERO), Some("process 1"));
//! assert_eq!(callees.revoke(early, Nanos::ZERO), None);
//! assert!(callees.enter(early, "process 2").is_none());
//! drop(running);
//! assert_eq!(callees.size(), (0, 0));
//! ```

use std::fmt;
use std::sync::Arc;

use hashlink::LinkedHashMap;

use crate::clock::Nanos;
use crate::sync::{AHashMap, Mutex, RandomState};

const SHARDS: usize = 16;

/// How many revoked calls each shard remembers. Those revoked first are forgotten first.
const REVOKED_PER_SHARD: usize = 4_096;

/// How long a revoked call is remembered: longer than the two can be apart on one connection.
const REMEMBERED: Nanos = Nanos::from_secs(60);

/// Maps with less room than this are not worth shrinking.
const SMALL: usize = 64;

/// What names a call among those of all nodes: something that its node has drawn at its start, and a number there.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub u64, pub u64);

/// The calls that run here; `P` names the process of one. At most 65,536 revoked ones are remembered (4,096 in
/// each of 16 shards), for a minute: older ones go with the next that comes to their shard.
pub struct Callees<P> {
    shards: Box<[Mutex<Shard<P>>]>,
    revoked_per_shard: usize,
    hasher: RandomState,
}

struct Shard<P> {
    running: AHashMap<Key, P>,
    revoked: LinkedHashMap<Key, Nanos, RandomState>,
}

/// A call that runs. It ends when this is dropped.
pub struct Callee<P> {
    callees: Arc<Callees<P>>,
    key: Key,
}

impl<P> Callees<P> {
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

    /// How many calls run, and how many revoked ones are remembered.
    pub fn size(&self) -> (usize, usize) {
        self.shards
            .iter()
            .fold((0, 0), |(running, revoked), shard| {
                let shard = shard.lock();
                (running + shard.running.len(), revoked + shard.revoked.len())
            })
    }

    fn shard(&self, key: Key) -> Option<&Mutex<Shard<P>>> {
        let hash = self.hasher.hash_one(key);
        // The maps use the low bits.
        let index = (hash >> 32) % (self.shards.len() as u64);
        self.shards.get(index as usize)
    }
}

impl<P: Copy> Callees<P> {
    /// A call begins in this process; none if it has been revoked already, which is then forgotten.
    #[must_use]
    pub fn enter(self: &Arc<Self>, key: Key, process: P) -> Option<Callee<P>> {
        let mut shard = self.shard(key)?.lock();
        if shard.revoked.remove(&key).is_some() {
            return None;
        }
        shard.running.insert(key, process);
        drop(shard);
        Some(Callee {
            callees: Arc::clone(self),
            key,
        })
    }

    /// Nobody waits for this call any more: its process, which is to be killed, or none if it has not begun. It
    /// may also have ended.
    pub fn revoke(&self, key: Key, now: Nanos) -> Option<P> {
        let mut shard = self.shard(key)?.lock();
        if let Some(process) = shard.running.get(&key) {
            return Some(*process);
        }
        shard.remember(key, now, self.revoked_per_shard);
        None
    }
}

impl<P> Default for Callees<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> fmt::Debug for Callees<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (running, revoked) = self.size();
        write!(f, "Callees {{ running: {running}, revoked: {revoked} }}")
    }
}

impl<P> Shard<P> {
    fn new() -> Self {
        Self {
            running: AHashMap::default(),
            revoked: LinkedHashMap::with_hasher(RandomState::new()),
        }
    }

    fn remember(&mut self, key: Key, now: Nanos, most: usize) {
        self.revoked.insert(key, now);
        while let Some((_, at)) = self.revoked.front() {
            if self.revoked.len() <= most && now.saturating_sub(*at) < REMEMBERED {
                break;
            }
            self.revoked.pop_front();
        }
    }
}

impl<P> Callee<P> {
    /// Which call it is.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }
}

impl<P> fmt::Debug for Callee<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callee({:?})", self.key)
    }
}

impl<P> Drop for Callee<P> {
    fn drop(&mut self) {
        if let Some(shard) = self.callees.shard(self.key) {
            let running = &mut shard.lock().running;
            running.remove(&self.key);
            let room = running.capacity();
            if room > SMALL && running.len() < room / 8 {
                running.shrink_to(room / 4);
            }
        }
    }
}
