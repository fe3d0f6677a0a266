//! How many slots and places in the queue each caller has, so that one cannot take all of them.

use crate::address;
use crate::sync::{AHashMap, Mutex, RandomState};

/// Whom a task is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Name<'n> {
    /// A user.
    User(&'n [u8]),
    /// An anonymous client by address, of which so many bits count if it is an IPv6 one.
    Address(&'n [u8], u32),
}

/// Whom a task is for, by the hash of a name: two callers with the same hash share a count.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    hash: u64,
    /// How many tasks of theirs there may be at a time.
    pub most: u32,
}

#[derive(Debug)]
pub(super) struct Shares {
    hasher: RandomState,
    tasks: Mutex<AHashMap<u64, u32>>,
}

impl Shares {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            tasks: Mutex::new(AHashMap::default()),
        }
    }

    pub(super) fn caller(&self, name: &Name<'_>, most: u32) -> Caller {
        let key = match name {
            Name::User(_) => None,
            Name::Address(text, bits) => {
                address::key(text, u8::try_from(*bits).unwrap_or(u8::MAX).min(128))
            }
        };
        let (user, key): (bool, &[u8]) = match (name, &key) {
            (Name::User(name), _) => (true, name),
            (Name::Address(..), Some(key)) => (false, key),
            (Name::Address(text, _), None) => (false, text),
        };
        let hash = self.hasher.hash_one((user, key));
        Caller { hash, most }
    }

    /// One more task of a caller, unless it has as many as it may.
    pub(super) fn take(&self, caller: Caller) -> bool {
        let mut tasks = self.tasks.lock();
        let count = tasks.entry(caller.hash).or_insert(0);
        let fits = *count < caller.most;
        if fits {
            *count += 1;
        } else if *count == 0 {
            tasks.remove(&caller.hash);
        }
        fits
    }

    pub(super) fn give_back(&self, caller: Caller) {
        let mut tasks = self.tasks.lock();
        if let Some(count) = tasks.get_mut(&caller.hash) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                tasks.remove(&caller.hash);
            }
        }
    }

    pub(super) fn callers(&self) -> usize {
        self.tasks.lock().len()
    }
}
