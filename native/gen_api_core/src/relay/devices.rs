//! The reverse index: which groups a device is in, so that its death costs no search.

use super::group::Group;
use crate::sync::{Mutex, RandomState};
use hashbrown::HashTable;
use std::hash::Hash;
use std::sync::{Arc, Weak};

/// A group and the place of the member in it.
pub(super) type Seat<H> = (Weak<Group<H>>, u32);

#[derive(Debug)]
#[allow(clippy::box_collection)] // thin: most devices are in one group
enum Seats<H> {
    None,
    One(u32, Weak<Group<H>>),
    Many(Box<Vec<Seat<H>>>),
}

#[derive(Debug)]
struct Node<H> {
    id: H,
    seats: Seats<H>,
}

impl<H> Seats<H> {
    fn push(&mut self, group: Weak<Group<H>>, member: u32) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(member, group),
            Self::One(first, one) => Self::Many(Box::new(vec![(one, first), (group, member)])),
            Self::Many(mut seats) => {
                seats.push((group, member));
                Self::Many(seats)
            }
        };
    }

    fn remove(&mut self, group: &Group<H>, member: u32) {
        let is_it =
            |weak: &Weak<Group<H>>, of: u32| of == member && std::ptr::eq(weak.as_ptr(), group);
        match self {
            Self::One(of, one) if is_it(one, *of) => *self = Self::None,
            Self::Many(seats) => {
                // From the end: what was joined last is left first, as a rule.
                if let Some(at) = seats.iter().rposition(|(one, of)| is_it(one, *of)) {
                    seats.swap_remove(at);
                }
                if seats.len() == 1 {
                    if let Some((one, of)) = seats.pop() {
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
            Self::Many(seats) => (None, Some(seats)),
        };
        let many = many.into_iter().flat_map(|seats| seats.iter());
        one.into_iter()
            .chain(many.map(|(group, member)| (group, *member)))
    }

    fn into_vec(self) -> Vec<Seat<H>> {
        match self {
            Self::None => Vec::new(),
            Self::One(member, group) => vec![(group, member)],
            Self::Many(seats) => *seats,
        }
    }
}

/// All devices that ever joined a group and have not ended.
#[derive(Debug)]
pub(super) struct Registry<H> {
    shards: Box<[Mutex<Table<H>>]>,
    hasher: RandomState,
}

// Boxed: a table that is half empty wastes pointers, not nodes.
#[allow(clippy::vec_box)]
type Table<H> = HashTable<Box<Node<H>>>;

impl<H: Copy + Eq + Hash> Registry<H> {
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

    /// The device has joined; whether it was unknown until now, so that somebody has to watch it.
    pub(super) fn enter(&self, id: H, group: &Arc<Group<H>>, member: u32) -> bool {
        let hash = self.hasher.hash_one(id);
        let Some(shard) = self.shard(hash) else {
            return false;
        };
        let mut shard = shard.lock();
        let mut unknown = false;
        let node = shard
            .entry(
                hash,
                |node| node.id == id,
                |node| self.hasher.hash_one(node.id),
            )
            .or_insert_with(|| {
                unknown = true;
                Box::new(Node {
                    id,
                    seats: Seats::None,
                })
            })
            .into_mut();
        node.seats.push(Arc::downgrade(group), member);
        unknown
    }

    /// The device has left a group. It stays known, because it is still watched.
    pub(super) fn leave(&self, id: H, group: &Group<H>, member: u32) {
        let hash = self.hasher.hash_one(id);
        if let Some(shard) = self.shard(hash) {
            if let Some(node) = shard.lock().find_mut(hash, |node| node.id == id) {
                node.seats.remove(group, member);
            }
        }
    }

    /// The device has ended: where it was.
    pub(super) fn end(&self, id: H) -> Vec<Seat<H>> {
        let hash = self.hasher.hash_one(id);
        let Some(shard) = self.shard(hash) else {
            return Vec::new();
        };
        let mut shard = shard.lock();
        match shard.find_entry(hash, |node| node.id == id) {
            Ok(entry) => entry.remove().0.seats.into_vec(),
            Err(_) => Vec::new(),
        }
    }

    /// Whether the device is known to sit there, once; for tests.
    pub(super) fn knows(&self, id: H, group: &Arc<Group<H>>, member: u32) -> bool {
        let hash = self.hasher.hash_one(id);
        let shard = self.shard(hash).map(Mutex::lock);
        let node = shard
            .as_ref()
            .and_then(|shard| shard.find(hash, |node| node.id == id));
        let is_it = |(weak, of): &(&Weak<Group<H>>, u32)| {
            *of == member && std::ptr::eq(weak.as_ptr(), &raw const **group)
        };
        node.is_some_and(|node| node.seats.iter().filter(is_it).count() == 1)
    }

    /// The seats of all devices, for tests.
    pub(super) fn seats(&self) -> usize {
        let of_shard = |shard: &Mutex<Table<H>>| {
            let shard = shard.lock();
            shard
                .iter()
                .map(|node| node.seats.iter().count())
                .sum::<usize>()
        };
        self.shards.iter().map(of_shard).sum()
    }

    /// How many there are, and roughly the bytes that they take.
    pub(super) fn size(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(count, bytes), shard| {
            let shard = shard.lock();
            let own = shard.len() * size_of::<Node<H>>() + shard.allocation_size();
            (count + shard.len(), bytes + own)
        })
    }
}
