use std::mem::size_of;
use std::sync::Arc;

use hashbrown::HashTable;

use super::hasher::{Hashed, Hasher};
use super::key::Key;
use super::limit::{Family, Limit};
use super::paged_vec::PagedVec;
use super::pool::{Credit, Pool};
use super::rule::{Denial, Opening, State};
use crate::clock::Nanos;

/// Some of the windows; the limiter keeps each shard behind a lock.
#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) windows: PagedVec<Window>,
    pub(super) index: HashTable<IndexEntry>,
    credit: Credit,
    /// Memory that windows hold outside of themselves.
    heap: usize,
    /// A new window's clock starts here: at an earlier time, one that was dropped since might have counted.
    pub(super) floor: Nanos,
    /// Where a sweep goes on, downwards.
    pub(super) sweep_from: Option<usize>,
    /// Where the next sample goes on.
    pub(super) sample_from: usize,
}

/// What is remembered for one value under one limit.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Window {
    pub(super) family: Arc<Family>,
    key: Key,
    pub(super) state: State,
}

/// Where a window is. The hash is kept so that the table grows without a look at the windows.
#[derive(Debug)]
pub(super) struct IndexEntry {
    tag: u32,
    slot: u32,
}

/// A request fits, and this is where it goes; valid until the shard is changed.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) slot: Option<u32>,
    opening: Opening,
}

impl Place {
    pub(super) fn is_new(&self) -> bool {
        self.slot.is_none()
    }
}

impl Shard {
    /// Whether a request fits after `ahead` others of the same moment.
    #[inline]
    pub(super) fn probe(
        &self,
        hashed: Hashed,
        limit: &Limit,
        value: &[u8],
        now: Nanos,
        ahead: u32,
    ) -> Result<Place, Denial> {
        let slot = self.find(hashed.tag, limit.family(), value);
        let opening = match slot.and_then(|slot| self.windows.get(slot as usize)) {
            Some(window) => limit.rule().probe(&window.state, now, ahead),
            None => {
                let state = limit.family().kind().state(self.floor);
                limit.rule().probe(&state, now, ahead)
            }
        };
        opening.map(|opening| Place { slot, opening })
    }

    /// Brings what seems to be a window into the cache.
    #[inline]
    pub(super) fn touch(&self, hashed: Hashed) -> bool {
        let entry = self
            .index
            .find(spread(hashed.tag), |entry| entry.tag == hashed.tag);
        entry
            .and_then(|entry| self.windows.get(entry.slot as usize))
            .is_some_and(|window| !window.state.is_empty())
    }

    /// Makes sure that [`Shard::admit`] may record one more entry, in a window of its own if `new`.
    #[inline]
    pub(super) fn reserve(
        &mut self,
        limit: &Limit,
        new: bool,
        max_keys: usize,
        pool: &Pool,
    ) -> bool {
        if !self.credit.pay(pool) {
            return false;
        }
        let joined = !new || (self.has_slot() && limit.family().join(max_keys));
        if !joined {
            self.credit.refund(1, pool);
        }
        joined
    }

    /// Undoes [`Shard::reserve`].
    pub(super) fn cancel(&mut self, limit: &Limit, new: bool, pool: &Pool) {
        self.credit.refund(1, pool);
        if new {
            limit.family().leave();
        }
    }

    /// Records a request that [`Shard::probe`] let pass and for which there is a reservation.
    #[inline]
    pub(super) fn admit(
        &mut self,
        hashed: Hashed,
        limit: &Limit,
        value: &[u8],
        place: Place,
        pool: &Pool,
    ) {
        let window = place
            .slot
            .and_then(|slot| self.windows.get_mut(slot as usize));
        if let Some(window) = window {
            let before = window.state.bytes();
            let released = window.state.admit(place.opening);
            self.heap = self.heap + window.state.bytes() - before;
            self.credit.refund(released, pool);
            return;
        }
        let mut state = limit.family().kind().state(self.floor);
        state.admit(place.opening);
        let key = Key::new(value);
        self.heap += key.bytes() + state.bytes();
        let entry = IndexEntry {
            tag: hashed.tag,
            slot: self.windows.len() as u32,
        };
        self.windows.push(Window {
            family: Arc::clone(limit.family()),
            key,
            state,
        });
        self.index
            .insert_unique(spread(entry.tag), entry, |entry| spread(entry.tag));
    }

    /// Looks a window up again, after another charge of the same check may have made it.
    pub(super) fn relocate(
        &self,
        hashed: Hashed,
        limit: &Limit,
        value: &[u8],
        place: Place,
    ) -> Place {
        Place {
            slot: self.find(hashed.tag, limit.family(), value),
            opening: Opening {
                expired: 0,
                ..place.opening
            },
        }
    }

    /// How many requests of a window count.
    pub(super) fn current(&self, hashed: Hashed, limit: &Limit, value: &[u8], now: Nanos) -> usize {
        let slot = self.find(hashed.tag, limit.family(), value);
        let window = slot.and_then(|slot| self.windows.get(slot as usize));
        window.map_or(0, |window| {
            limit.family().kind().current(&window.state, now)
        })
    }

    /// Forgets the requests of a window; whether there was one.
    pub(super) fn reset(
        &mut self,
        hashed: Hashed,
        limit: &Limit,
        value: &[u8],
        hasher: &Hasher,
        pool: &Pool,
    ) -> bool {
        let Some(slot) = self.find(hashed.tag, limit.family(), value) else {
            return false;
        };
        let floor = self.floor;
        self.change(slot as usize, pool, |window| window.state.empty(floor));
        self.drop_if_empty(slot as usize, hasher);
        true
    }

    pub(super) fn return_credit(&mut self, pool: &Pool) {
        self.credit.return_to(pool);
    }

    /// Takes everything out, so that it can be freed without the lock.
    pub(super) fn take(&mut self, pool: &Pool) -> Self {
        self.credit.return_to(pool);
        let fresh = Self {
            floor: self.floor,
            ..Self::default()
        };
        std::mem::replace(self, fresh)
    }

    /// Frees all windows of a shard that was taken out; returns how many there were.
    pub(super) fn free(mut self, pool: &Pool) -> usize {
        let windows = self.windows.len();
        for window in self.windows.iter() {
            window.family.leave();
            self.credit.refund(window.state.held(), pool);
        }
        self.credit.return_to(pool);
        windows
    }

    pub(super) fn len(&self) -> usize {
        self.windows.len()
    }

    pub(super) fn idle_credit(&self) -> usize {
        self.credit.left()
    }

    pub(super) fn bytes(&self) -> usize {
        self.windows.bytes() + self.index.allocation_size() + self.heap
    }

    /// After a rush the index is memory for nothing.
    pub(super) fn shrink_index(&mut self) {
        if self.index.capacity() / 4 > self.windows.len() {
            self.index
                .shrink_to(self.windows.len() * 2, |entry| spread(entry.tag));
        }
    }

    fn has_slot(&self) -> bool {
        u32::try_from(self.windows.len()).is_ok()
    }

    #[inline]
    fn find(&self, tag: u32, family: &Arc<Family>, value: &[u8]) -> Option<u32> {
        let entry = self.index.find(spread(tag), |entry| {
            entry.tag == tag
                && self.windows.get(entry.slot as usize).is_some_and(|window| {
                    Arc::ptr_eq(&window.family, family) && window.key.as_bytes() == value
                })
        });
        entry.map(|entry| entry.slot)
    }

    /// Changes a window by something that returns how many entries became free.
    pub(super) fn change(
        &mut self,
        slot: usize,
        pool: &Pool,
        change: impl FnOnce(&mut Window) -> usize,
    ) {
        if let Some(window) = self.windows.get_mut(slot) {
            let before = window.state.bytes();
            let released = change(window);
            self.heap = self.heap + window.state.bytes() - before;
            self.credit.refund(released, pool);
        }
    }

    /// Removes a window that holds nothing any more; false if it does, or is not there.
    pub(super) fn drop_if_empty(&mut self, slot: usize, hasher: &Hasher) -> bool {
        let held = self.windows.get(slot).map(|window| window.state.held());
        if held != Some(0) {
            return false;
        }
        let last = self.windows.len() - 1;
        let moved = self.tag(last, hasher);
        if let Ok(entry) = self
            .index
            .find_entry(spread(self.tag(slot, hasher)), |entry| {
                entry.slot as usize == slot
            })
        {
            entry.remove();
        }
        if let Some(entry) = self
            .index
            .find_mut(spread(moved), |entry| entry.slot as usize == last)
        {
            entry.slot = slot as u32;
        }
        if let Some(window) = self.windows.swap_remove(slot) {
            self.heap -= window.key.bytes() + window.state.bytes();
            window.family.leave();
        }
        true
    }

    fn tag(&self, slot: usize, hasher: &Hasher) -> u32 {
        self.windows.get(slot).map_or(0, |window| {
            hasher.hash(window.family.id(), window.key.as_bytes()).tag
        })
    }
}

/// The table takes a slot from the low bits and a tag from the high ones.
fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}

const _: () = assert!(size_of::<Window>() <= 128);
