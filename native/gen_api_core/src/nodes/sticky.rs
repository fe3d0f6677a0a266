use std::borrow::Cow;
use std::hash::BuildHasher;
use std::mem::size_of;
use std::sync::Arc;

use crossbeam_utils::CachePadded;
use hashlink::linked_hash_map::RawEntryMut;
use hashlink::LinkedHashMap;

use super::candidates::Candidates;
use super::node::Node;
use crate::bounded::Bounded;
use crate::clock::Nanos;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Mutex, RandomState};

/// Above this many entries the table is cut into [`SHARDS`]. A small one stays whole: it is not worth the
/// memory, and one list needs no clock to know which entry is the oldest.
const WHOLE_UP_TO: usize = 4_096;
const SHARDS: usize = 16;

/// `Shard::oldest` of an empty shard.
const NEVER: u64 = u64::MAX;

/// How long and how much [`Sticky`] remembers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StickyLimits {
    /// Lifetime of an entry from its last use.
    pub ttl: Nanos,
    /// Most entries at any time; 0 remembers nothing.
    pub max_entries: usize,
}

impl Default for StickyLimits {
    /// One hour, 100,000 entries.
    fn default() -> Self {
        Self {
            ttl: Nanos::from_secs(3_600),
            max_entries: 100_000,
        }
    }
}

/// Which node a value of a function went to last.
///
/// One least-recently-used list per shard. The number of entries is kept exactly, for all shards together; when
/// it is reached, the shard with the oldest entry of all gives it up. So the bound and the order of eviction
/// are those of one list, while two values seldom meet at one lock. Two exceptions: uses at the same nanosecond
/// have no order between shards, and callers that insert the same new value into a full table at the same moment
/// may each make room for it, so that an entry too many goes.
#[derive(Debug)]
pub struct Sticky {
    shards: Box<[CachePadded<Shard>]>,
    hasher: RandomState,
    bounded: Bounded,
    len: AtomicUsize,
    ttl: AtomicU64,
    max_entries: AtomicUsize,
}

#[derive(Debug)]
struct Shard {
    /// Last use of the entry at the front, readable without the lock.
    oldest: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    by_key: LinkedHashMap<Key, Entry, RandomState>,
    value_bytes: usize,
}

#[derive(Debug, Hash, PartialEq, Eq)]
struct Key {
    function: Arc<[u8]>,
    value: Box<[u8]>,
}

#[derive(Debug)]
struct Entry {
    node: Arc<Node>,
    slot: u32,
    last_used: u64,
}

/// A key that borrows, with its hash. Hashes as [`Key`] does: field by field.
#[derive(Copy, Clone)]
pub(super) struct KeyRef<'a> {
    hash: u64,
    function: &'a Arc<[u8]>,
    value: &'a [u8],
}

/// The node that was remembered at some moment, as far as it is needed to notice a change.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) struct Seen(Option<*const Node>);

impl Sticky {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(limits: StickyLimits) -> Self {
        let shards = if limits.max_entries <= WHOLE_UP_TO {
            1
        } else {
            SHARDS
        };
        let hasher = RandomState::new();
        Self {
            shards: (0..shards)
                .map(|_| CachePadded::new(Shard::new(&hasher)))
                .collect(),
            hasher,
            bounded: Bounded::default(),
            len: AtomicUsize::new(0),
            ttl: AtomicU64::new(limits.ttl.0),
            max_entries: AtomicUsize::new(limits.max_entries),
        }
    }

    /// Changes the limits. Entries too many or too old by the new ones go with the next [`Sticky::sweep`].
    pub fn set_limits(&self, limits: StickyLimits) {
        self.ttl.store(limits.ttl.0, Relaxed);
        self.max_entries.store(limits.max_entries, Relaxed);
    }

    /// The limits in force.
    pub fn limits(&self) -> StickyLimits {
        StickyLimits {
            ttl: Nanos(self.ttl.load(Relaxed)),
            max_entries: self.max_entries.load(Relaxed),
        }
    }

    /// Removes entries that have outlived their lifetime or exceed the limit, the oldest first, at most
    /// `budget`; returns how many. Fewer than `budget` means that there are no more. Some 100 ns per entry.
    pub fn sweep(&self, now: Nanos, budget: usize) -> usize {
        let mut removed = 0;
        for shard in &self.shards {
            if self.is_expired(shard.oldest.load(Relaxed), now) {
                let mut entries = shard.entries.lock();
                while removed < budget && self.is_expired(entries.oldest(), now) && entries.pop() {
                    self.len.fetch_sub(1, Relaxed);
                    removed += 1;
                }
                entries.shrink();
                shard.oldest.store(entries.oldest(), Relaxed);
            }
        }
        let max_entries = self.max_entries.load(Relaxed);
        while removed < budget && self.len() > max_entries && self.pop_oldest() {
            self.len.fetch_sub(1, Relaxed);
            removed += 1;
        }
        removed
    }

    /// How many entries there are, expired ones that were not cleaned up yet included.
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, in bytes, without the allocator's own overhead.
    pub fn bytes(&self) -> usize {
        let shards = self.shards.len() * size_of::<CachePadded<Shard>>();
        let entries: usize = self
            .shards
            .iter()
            .map(|shard| shard.entries.lock().bytes())
            .sum();
        shards + entries
    }

    /// What a value is remembered by.
    pub(super) fn key<'v>(&self, value: &'v [u8]) -> Cow<'v, [u8]> {
        self.bounded.key(Cow::Borrowed(value))
    }

    /// `value` is a [`Sticky::key`].
    pub(super) fn wanted<'a>(&self, function: &'a Arc<[u8]>, value: &'a [u8]) -> KeyRef<'a> {
        KeyRef {
            hash: BuildHasher::hash_one(&self.hasher, (function, value)),
            function,
            value,
        }
    }

    /// Where the remembered node is among `candidates`, if there is one and it is listed; a use of the entry.
    pub(super) fn recall(
        &self,
        wanted: KeyRef<'_>,
        candidates: &Candidates,
        now: Nanos,
    ) -> (Seen, Option<usize>) {
        let Some(shard) = self.shard(wanted.hash) else {
            return (Seen(None), None);
        };
        let mut entries = shard.entries.lock();
        let RawEntryMut::Occupied(mut entry) = entries.find(wanted) else {
            return (Seen(None), None);
        };
        let memory = entry.get_mut();
        if self.is_expired(memory.last_used, now) {
            return (Seen(None), None);
        }
        let index = candidates.position(&memory.node, memory.slot as usize);
        if let Some(index) = index {
            memory.slot = index as u32;
        }
        let seen = Seen(Some(Arc::as_ptr(&memory.node)));
        let before = memory.last_used;
        memory.last_used = before.max(stamp(now));
        entry.to_back();
        if before <= shard.oldest.load(Relaxed) {
            shard.oldest.store(entries.oldest(), Relaxed);
        }
        (seen, index)
    }

    /// Remembers `node`, listed at `slot`, unless something else than `seen` is remembered by now; then it
    /// changes nothing and is false.
    pub(super) fn remember(
        &self,
        wanted: KeyRef<'_>,
        seen: Seen,
        node: &Arc<Node>,
        slot: usize,
        now: Nanos,
    ) -> bool {
        let max_entries = self.max_entries.load(Relaxed);
        let Some(shard) = self.shard(wanted.hash).filter(|_| max_entries > 0) else {
            return true;
        };
        let memory = || Entry {
            node: Arc::clone(node),
            slot: slot as u32,
            last_used: stamp(now),
        };
        let mut room = Room::none(&self.len);
        loop {
            let mut entries = shard.entries.lock();
            match entries.find(wanted) {
                RawEntryMut::Occupied(mut entry) => {
                    let current = entry.get();
                    let expired = self.is_expired(current.last_used, now);
                    let current = (!expired).then_some(Arc::as_ptr(&current.node));
                    if Seen(current) != seen {
                        return false;
                    }
                    entry.replace_value(memory());
                    entry.to_back();
                    shard.oldest.store(entries.oldest(), Relaxed);
                    return true;
                }
                RawEntryMut::Vacant(_) if seen != Seen(None) => return false,
                RawEntryMut::Vacant(entry) if room.take(max_entries) => {
                    let key = Key {
                        function: Arc::clone(wanted.function),
                        value: wanted.value.into(),
                    };
                    entry.insert_hashed_nocheck(wanted.hash, key, memory());
                    entries.value_bytes += wanted.value.len();
                    shard.oldest.store(entries.oldest(), Relaxed);
                    return true;
                }
                RawEntryMut::Vacant(_) => {}
            }
            // Full. The oldest entry may be in another shard, and no two locks are ever held.
            drop(entries);
            if !self.pop_oldest() {
                return true;
            }
            room.reserved = true;
        }
    }

    /// Drops the entry used least recently and leaves its place in `len` to the caller. False when there is none.
    fn pop_oldest(&self) -> bool {
        loop {
            // One load for each: by a second one the entry chosen could have been used.
            let shards = self.shards.iter();
            let shards = shards.map(|shard| (shard.oldest.load(Relaxed), shard));
            let Some((expected, shard)) = shards.min_by_key(|(oldest, _)| *oldest) else {
                return false;
            };
            if expected == NEVER {
                return false;
            }
            let mut entries = shard.entries.lock();
            // Used between the look and the lock: look again.
            if entries.oldest() <= expected && entries.pop() {
                shard.oldest.store(entries.oldest(), Relaxed);
                return true;
            }
        }
    }

    fn is_expired(&self, last_used: u64, now: Nanos) -> bool {
        now.saturating_sub(Nanos(last_used)) >= Nanos(self.ttl.load(Relaxed)) && last_used != NEVER
    }

    /// By bits that the hash map inside does not use for its slots.
    fn shard(&self, hash: u64) -> Option<&Shard> {
        self.shards
            .get((hash >> 48) as usize & (self.shards.len() - 1))
            .map(|shard| &**shard)
    }
}

/// A place in `len` for an entry about to be inserted, given back unless it was taken.
struct Room<'a> {
    len: &'a AtomicUsize,
    reserved: bool,
}

impl<'a> Room<'a> {
    fn none(len: &'a AtomicUsize) -> Self {
        Self {
            len,
            reserved: false,
        }
    }

    /// The place reserved before, or a new one while there are fewer than `max_entries`.
    fn take(&mut self, max_entries: usize) -> bool {
        let more = |len| (len < max_entries).then_some(len + 1);
        std::mem::take(&mut self.reserved) || self.len.fetch_update(Relaxed, Relaxed, more).is_ok()
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if self.reserved {
            self.len.fetch_sub(1, Relaxed);
        }
    }
}

/// A time of use, never mistaken for [`NEVER`].
fn stamp(now: Nanos) -> u64 {
    now.0.min(NEVER - 1)
}

impl Shard {
    fn new(hasher: &RandomState) -> Self {
        Self {
            oldest: AtomicU64::new(NEVER),
            entries: Mutex::new(Entries {
                by_key: LinkedHashMap::with_hasher(hasher.clone()),
                value_bytes: 0,
            }),
        }
    }
}

impl Entries {
    fn find(&mut self, wanted: KeyRef<'_>) -> RawEntryMut<'_, Key, Entry, RandomState> {
        self.by_key.raw_entry_mut().from_hash(wanted.hash, |key| {
            *key.value == *wanted.value && key.function == *wanted.function
        })
    }

    fn oldest(&self) -> u64 {
        self.by_key
            .front()
            .map_or(NEVER, |(_, memory)| memory.last_used)
    }

    fn pop(&mut self) -> bool {
        let Some((key, _)) = self.by_key.pop_front() else {
            return false;
        };
        self.value_bytes = self.value_bytes.saturating_sub(key.value.len());
        true
    }

    /// The map keeps the nodes of removed entries for new ones. After a rush that is memory for nothing.
    fn shrink(&mut self) {
        if self.by_key.len() < self.by_key.capacity() / 4 {
            self.by_key.shrink_to_fit();
        }
    }

    fn bytes(&self) -> usize {
        // Two links per entry; a pointer and a control byte per slot.
        let entry = size_of::<Key>() + size_of::<Entry>() + 2 * size_of::<usize>();
        let slot = size_of::<usize>() + 1;
        self.by_key.len() * entry + self.by_key.capacity() * slot + self.value_bytes
    }
}
