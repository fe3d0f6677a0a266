//! All groups, and how one is found.

use super::device_index::DeviceIndex;
use super::group::{Group, State};
use super::message_rate::MessageRate;
use super::outcome::Refusal;
use super::pending_exits::PendingExits;
use super::slow_consumers::SlowConsumers;
use super::users::Users;
use crate::clock::Nanos;
use crate::limiter::Swept;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{ArcSwap, RandomState, RwLock};
use hashbrown::HashTable;
use std::hash::Hash;
use std::sync::Arc;

// Few where every order of threads is tried.
const SHARDS: usize = if cfg!(loom) { 2 } else { 256 };

/// How much an index may hold.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Groups.
    pub groups: usize,
    /// Members of a group, remembered ones included.
    pub members: usize,
    /// Pending members of a group.
    pub pending: usize,
    /// Groups of a user.
    pub groups_per_user: usize,
    /// How long somebody whose last device has ended may come back as if they had not left.
    pub grace_ms: u64,
}

impl Default for Bounds {
    /// The defaults of the configuration.
    fn default() -> Self {
        Self {
            groups: 100_000,
            members: 100_000,
            pending: 1_000,
            groups_per_user: 1_000,
            grace_ms: 0,
        }
    }
}

pub(super) type Shard<H> = RwLock<HashTable<Arc<Group<H>>>>;
pub(super) type Outcome<T = ()> = Result<T, Refusal>;

/// An index of groups. `H` names a device.
///
/// Every operation is constant in the size of the group, except [`Relay::delete`] and the
/// listings. Locks: a shard of the groups is held for one look-up; a group is held for the
/// operation; shards of users and devices are held within that, for one look-up each.
#[derive(Debug)]
pub struct Relay<H> {
    groups: Box<[Shard<H>]>,
    pub(super) count: AtomicUsize,
    pub(super) users: Users<H>,
    pub(super) devices: DeviceIndex<H>,
    pub(super) pending_exits: PendingExits<H>,
    pub(super) bounds: ArcSwap<Bounds>,
    pub(super) message_rate: MessageRate,
    pub(super) slow: SlowConsumers<H>,
    pub(super) shared: AtomicBool,
    pub(super) hasher: RandomState,
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Without groups.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let hasher = RandomState::new();
        Self {
            groups: (0..SHARDS).map(|_| Shard::default()).collect(),
            count: AtomicUsize::new(0),
            users: Users::new(SHARDS),
            devices: DeviceIndex::new(SHARDS, hasher.clone()),
            pending_exits: PendingExits::default(),
            bounds: ArcSwap::from_pointee(bounds),
            message_rate: MessageRate::new(),
            slow: SlowConsumers::new(),
            shared: AtomicBool::new(false),
            hasher,
        }
    }

    /// Changes the bounds. What is there already stays.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.bounds.store(Arc::new(bounds));
    }

    /// Limits the messages per second of each group, and of each member in each group.
    pub fn set_message_rate(&self, group: Option<u32>, member: Option<u32>) {
        self.message_rate.set(group, member);
    }

    /// Reclaims memory of those limits, see [`crate::limiter::Limiter::sweep`].
    pub fn sweep(&self, now: Nanos, budget: usize) -> Swept {
        self.message_rate.sweep(now, budget)
    }

    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    pub(super) fn shard(&self, hash: u64) -> Option<&Shard<H>> {
        let spread = usize::try_from(hash >> 24 & 0xffff).unwrap_or(0);
        self.groups.get(spread & (SHARDS - 1))
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Group<H>>> {
        let hash = self.hash(id.as_bytes());
        let shard = self.shard(hash)?.read();
        shard.find(hash, |group| *group.id == *id).cloned()
    }

    /// All groups as they are now, one shard after the other.
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<Group<H>>> + '_ {
        self.groups
            .iter()
            .flat_map(|shard| shard.read().iter().cloned().collect::<Vec<_>>())
    }

    /// Does something to a group under its lock.
    pub(super) fn with_group<T>(
        &self,
        id: &str,
        act: impl FnOnce(&Arc<Group<H>>, &mut State<H>) -> Outcome<T>,
    ) -> Outcome<T> {
        let group = self.find(id).ok_or(Refusal::NotFound)?;
        let mut state = group.state.lock();
        if state.deleted {
            return Err(Refusal::NotFound);
        }
        act(&group, &mut state)
    }

    /// The same, unless other nodes have to agree to changes.
    pub(super) fn with_unshared_group<T>(
        &self,
        id: &str,
        act: impl FnOnce(&Arc<Group<H>>, &mut State<H>) -> Outcome<T>,
    ) -> Outcome<T> {
        let outcome = self.with_group(id, |group, state| {
            self.check_unshared()?;
            act(group, state)
        });
        match outcome {
            // What is not here may be on its way.
            Err(Refusal::NotFound) => self.check_unshared().and(outcome),
            _ => outcome,
        }
    }

    // Within the lock of the group: whoever sees it set has not changed what somebody copied
    // after setting it.
    pub(super) fn check_unshared(&self) -> Outcome {
        if self.shared.load(Ordering::SeqCst) {
            Err(Refusal::Shared)
        } else {
            Ok(())
        }
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
