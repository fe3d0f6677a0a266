//! Users, each with the groups that know them. The bytes of an id are kept once.

use super::group::Group;
use crate::sync::Mutex;
use hashbrown::HashTable;
use std::fmt;
use std::sync::{Arc, Weak};
use triomphe::ThinArc;

/// A user: the id, and the groups that hold a record of them. One pointer.
pub(super) struct User<H>(ThinArc<Mutex<Groups<H>>, u8>);

impl<H> Clone for User<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<H> fmt::Debug for User<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("User").field(&self.id()).finish()
    }
}

impl<H> User<H> {
    fn new(id: &str) -> Self {
        let groups = Mutex::new(Groups::None);
        Self(ThinArc::from_header_and_slice(groups, id.as_bytes()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.slice
    }

    pub(super) fn id(&self) -> &str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    fn groups(&self) -> &Mutex<Groups<H>> {
        &self.0.header.header
    }
}

#[allow(clippy::box_collection)] // thin: a user has to be small
enum Groups<H> {
    None,
    One(Weak<Group<H>>),
    Many(Box<Vec<Weak<Group<H>>>>),
}

impl<H> Groups<H> {
    fn as_slice(&self) -> &[Weak<Group<H>>] {
        match self {
            Self::None => &[],
            Self::One(group) => std::slice::from_ref(group),
            Self::Many(groups) => groups,
        }
    }

    fn push(&mut self, group: Weak<Group<H>>) {
        *self = match std::mem::replace(self, Self::None) {
            Self::None => Self::One(group),
            Self::One(first) => Self::Many(Box::new(vec![first, group])),
            Self::Many(mut groups) => {
                groups.push(group);
                Self::Many(groups)
            }
        };
    }

    fn remove(&mut self, group: &Group<H>) {
        let is_same = |weak: &Weak<Group<H>>| std::ptr::eq(weak.as_ptr(), group);
        match self {
            Self::One(one) if is_same(one) => *self = Self::None,
            Self::Many(groups) => {
                if let Some(at) = groups.iter().position(is_same) {
                    groups.swap_remove(at);
                }
                if groups.len() == 1 {
                    if let Some(last) = groups.pop() {
                        *self = Self::One(last);
                    }
                }
            }
            _ => {}
        }
    }
}

/// All users of all groups.
#[derive(Debug)]
pub(super) struct Users<H> {
    shards: Box<[Mutex<HashTable<User<H>>>]>,
}

impl<H> Users<H> {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
        }
    }

    fn shard(&self, hash: u64) -> Option<&Mutex<HashTable<User<H>>>> {
        // The table uses the low and the topmost bits.
        let spread = usize::try_from(hash >> 24 & 0xffff).unwrap_or(0);
        self.shards.get(spread & (self.shards.len() - 1))
    }

    /// The user, with `group` among their groups; none if they have `most` of them.
    pub(super) fn enter(
        &self,
        id: &str,
        hash: u64,
        group: &Arc<Group<H>>,
        most: usize,
        hasher: impl Fn(&[u8]) -> u64,
    ) -> Option<User<H>> {
        let mut shard = self.shard(hash)?.lock();
        let entry = shard.entry(
            hash,
            |user| user.bytes() == id.as_bytes(),
            |user| hasher(user.bytes()),
        );
        let user = entry.or_insert_with(|| User::new(id)).into_mut();
        let mut groups = user.groups().lock();
        let known = groups.as_slice().len();
        if known >= most {
            drop(groups);
            return None;
        }
        groups.push(Arc::downgrade(group));
        drop(groups);
        Some(user.clone())
    }

    /// The group no longer knows the user.
    pub(super) fn leave(&self, user: &User<H>, hash: u64, group: &Group<H>) {
        let Some(shard) = self.shard(hash) else {
            return;
        };
        let mut shard = shard.lock();
        let mut groups = user.groups().lock();
        groups.remove(group);
        if groups.as_slice().is_empty() {
            if let Ok(entry) = shard.find_entry(hash, |other| other.bytes() == user.bytes()) {
                entry.remove();
            }
        }
    }

    /// The groups that hold a record of a user.
    pub(super) fn groups(&self, id: &str, hash: u64) -> Vec<Arc<Group<H>>> {
        let Some(shard) = self.shard(hash) else {
            return Vec::new();
        };
        let shard = shard.lock();
        let Some(user) = shard.find(hash, |user| user.bytes() == id.as_bytes()) else {
            return Vec::new();
        };
        let groups = user.groups().lock();
        groups.as_slice().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether `group` is among the groups of this user, who is the only one of that id; for tests.
    pub(super) fn knows(&self, user: &User<H>, hash: u64, group: &Arc<Group<H>>) -> bool {
        let shard = self.shard(hash).map(Mutex::lock);
        let known = shard
            .as_ref()
            .and_then(|shard| shard.find(hash, |other| std::ptr::eq(other.bytes(), user.bytes())));
        let is_same = |weak: &&Weak<Group<H>>| std::ptr::eq(weak.as_ptr(), &raw const **group);
        known.is_some_and(|user| {
            user.groups()
                .lock()
                .as_slice()
                .iter()
                .filter(is_same)
                .count()
                == 1
        })
    }

    /// The groups of all users, for tests.
    pub(super) fn memberships(&self) -> usize {
        let groups = |user: &User<H>| user.groups().lock().as_slice().len();
        let of_shard =
            |shard: &Mutex<HashTable<User<H>>>| shard.lock().iter().map(groups).sum::<usize>();
        self.shards.iter().map(of_shard).sum()
    }

    /// How many there are, and roughly the bytes that they take.
    pub(super) fn size(&self) -> (usize, usize) {
        self.shards.iter().fold((0, 0), |(users, bytes), shard| {
            let shard = shard.lock();
            let own: usize = shard.iter().map(|user| 40 + user.bytes().len()).sum();
            (users + shard.len(), bytes + own + shard.allocation_size())
        })
    }
}
