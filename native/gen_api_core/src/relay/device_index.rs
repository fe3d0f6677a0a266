//! The reverse index: which groups a device is in, so that its death costs no search.

use super::group::Group;
use crate::sync::{Mutex, RandomState};
use hashbrown::HashTable;
use std::hash::Hash;
use std::sync::{Arc, Weak};

/// A group and the place of the member in it.
pub(super) type Membership<H> = (Weak<Group<H>>, u32);

#[derive(Debug)]
#[allow(clippy::box_collection)] // thin: most devices are in one group
enum Memberships<H> {
    None,
    One(u32, Weak<Group<H>>),
    Many(Box<Vec<Membership<H>>>),
}

#[derive(Debug)]
struct Entry<H> {
    id: H,
    memberships: Memberships<H>,
}

impl<H> Memberships<H> {
    fn push(&mut self, group: Weak<Group<H>>, member: u32) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(member, group),
            Self::One(first, one) => Self::Many(Box::new(vec![(one, first), (group, member)])),
            Self::Many(mut memberships) => {
                memberships.push((group, member));
                Self::Many(memberships)
            }
        };
    }

    fn remove(&mut self, group: &Group<H>, member: u32) {
        let is_same =
            |weak: &Weak<Group<H>>, of: u32| of == member && std::ptr::eq(weak.as_ptr(), group);
        match self {
            Self::One(of, one) if is_same(one, *of) => *self = Self::None,
            Self::Many(memberships) => {
                // From the end: what was joined last is left first, as a rule.
                if let Some(at) = memberships.iter().rposition(|(one, of)| is_same(one, *of)) {
                    memberships.swap_remove(at);
                }
                if memberships.len() == 1 {
                    if let Some((one, of)) = memberships.pop() {
                        *self = Self::One(of, one);
                    }
                }
            }
            _ => {}
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&Weak<Group<H>>, u32)> {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(member, group) => (Some((group, *member)), None),
            Self::Many(memberships) => (None, Some(memberships)),
        };
        let many = many.into_iter().flat_map(|memberships| memberships.iter());
        one.into_iter()
            .chain(many.map(|(group, member)| (group, *member)))
    }

    fn into_vec(self) -> Vec<Membership<H>> {
        match self {
            Self::None => Vec::new(),
            Self::One(member, group) => vec![(group, member)],
            Self::Many(memberships) => *memberships,
        }
    }
}

/// All devices that ever joined a group and have not ended.
#[derive(Debug)]
pub(super) struct DeviceIndex<H> {
    shards: Box<[Mutex<Table<H>>]>,
    hasher: RandomState,
}

// Boxed: a table that is half empty wastes pointers, not nodes.
#[allow(clippy::vec_box)]
type Table<H> = HashTable<Box<Entry<H>>>;

impl<H: Copy + Eq + Hash> DeviceIndex<H> {
    pub(super) fn new(shards: usize, hasher: RandomState) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            hasher,
        }
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<Table<H>>> {
        let spread = usize::try_from(hash >> 24 & 0xffff).unwrap_or(0);
        self.shards.get(spread & (self.shards.len() - 1))
    }

    /// The device has joined; whether it was unknown until now, so that it has to be monitored.
    pub(super) fn enter(&self, id: H, group: &Arc<Group<H>>, member: u32) -> bool {
        let hash = self.hasher.hash_one(id);
        let Some(shard) = self.shard(hash) else {
            return false;
        };
        let mut shard = shard.lock();
        let mut unknown = false;
        let entry = shard
            .entry(
                hash,
                |entry| entry.id == id,
                |entry| self.hasher.hash_one(entry.id),
            )
            .or_insert_with(|| {
                unknown = true;
                Box::new(Entry {
                    id,
                    memberships: Memberships::None,
                })
            })
            .into_mut();
        entry.memberships.push(Arc::downgrade(group), member);
        unknown
    }

    /// The device has left a group. It stays known, because it is still monitored.
    pub(super) fn leave(&self, id: H, group: &Group<H>, member: u32) {
        let hash = self.hasher.hash_one(id);
        if let Some(shard) = self.shard(hash) {
            if let Some(entry) = shard.lock().find_mut(hash, |entry| entry.id == id) {
                entry.memberships.remove(group, member);
            }
        }
    }

    /// The device has ended: where it was.
    pub(super) fn remove(&self, id: H) -> Vec<Membership<H>> {
        let hash = self.hasher.hash_one(id);
        let Some(shard) = self.shard(hash) else {
            return Vec::new();
        };
        let mut shard = shard.lock();
        match shard.find_entry(hash, |entry| entry.id == id) {
            Ok(entry) => entry.remove().0.memberships.into_vec(),
            Err(_) => Vec::new(),
        }
    }

    /// Whether the device is known to sit there, once; for tests.
    pub(super) fn knows(&self, id: H, group: &Arc<Group<H>>, member: u32) -> bool {
        let hash = self.hasher.hash_one(id);
        let shard = self.shard(hash).map(Mutex::lock);
        let entry = shard
            .as_ref()
            .and_then(|shard| shard.find(hash, |entry| entry.id == id));
        let is_same = |(weak, of): &(&Weak<Group<H>>, u32)| {
            *of == member && std::ptr::eq(weak.as_ptr(), &raw const **group)
        };
        entry.is_some_and(|entry| entry.memberships.iter().filter(is_same).count() == 1)
    }

    /// The seats of all devices, for tests.
    pub(super) fn memberships(&self) -> usize {
        let of_shard = |shard: &Mutex<Table<H>>| {
            let shard = shard.lock();
            shard
                .iter()
                .map(|entry| entry.memberships.iter().count())
                .sum::<usize>()
        };
        self.shards.iter().map(of_shard).sum()
    }

    /// How many there are, and roughly the bytes that they take.
    pub(super) fn size(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(count, bytes), shard| {
            let shard = shard.lock();
            let own = shard.len() * size_of::<Entry<H>>() + shard.allocation_size();
            (count + shard.len(), bytes + own)
        })
    }
}
