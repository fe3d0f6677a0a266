//! How many run and how many wait, in one word, and who waits.
//!
//! While nobody waits, slots are taken and given back without a lock. How many wait is changed under the lock
//! of the queue only.

use crate::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sync::Mutex;

use super::task::Task;

const ONE_RUNNING: u64 = 1 << 32;

#[derive(Copy, Clone)]
pub(super) struct Counts {
    pub(super) running: u32,
    pub(super) waiting: u32,
}

pub(super) enum Place {
    Slot,
    Queue,
}

#[derive(Debug)]
pub(super) struct Queue<P> {
    size: u32,
    max_waiting: u32,
    counts: AtomicU64,
    // By number, so that one who leaves is found, and the numbers are those of the tasks.
    tasks: Mutex<BTreeMap<u64, Arc<Task<P>>>>,
    next: AtomicU64,
}

impl<P: Copy> Queue<P> {
    pub(super) fn new(size: u32, max_waiting: u32) -> Self {
        Self {
            size,
            max_waiting,
            counts: AtomicU64::new(0),
            tasks: Mutex::new(BTreeMap::new()),
            next: AtomicU64::new(0),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        unpack(self.counts.load(Acquire))
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// A slot or a place in the queue; None when there is neither. `task` makes the task, of that number.
    pub(super) fn admit(
        &self,
        may_wait: bool,
        task: impl FnOnce(u64, Place) -> Arc<Task<P>>,
    ) -> Option<Arc<Task<P>>> {
        if self.take_slot() {
            return Some(task(self.number(), Place::Slot));
        }
        if !may_wait || self.counts().waiting >= self.max_waiting {
            return None;
        }
        let mut tasks = self.tasks.lock();
        match self.take_place()? {
            Place::Slot => {
                drop(tasks);
                Some(task(self.number(), Place::Slot))
            }
            Place::Queue => {
                let task = task(self.number(), Place::Queue);
                tasks.insert(task.number, Arc::clone(&task));
                Some(task)
            }
        }
    }

    /// Takes one who waits out of the queue. Nothing happens when its turn has come.
    pub(super) fn remove(&self, number: u64) {
        let mut tasks = self.tasks.lock();
        if tasks.remove(&number).is_some() {
            self.counts.fetch_sub(1, AcqRel);
        }
    }

    /// Gives a slot back. Whoever is returned has it now.
    pub(super) fn release(&self) -> Option<Arc<Task<P>>> {
        if self.free_slot() {
            return None;
        }
        let mut tasks = self.tasks.lock();
        if self.free_slot() {
            return None;
        }
        let (_, first) = tasks.pop_first()?;
        self.counts.fetch_sub(1, AcqRel);
        Some(first)
    }

    /// Everybody who waits, first come first.
    pub(super) fn waiting(&self) -> Vec<Arc<Task<P>>> {
        self.tasks.lock().values().cloned().collect()
    }

    fn number(&self) -> u64 {
        self.next.fetch_add(1, AcqRel)
    }

    fn take_slot(&self) -> bool {
        let taken = |packed| self.is_free(packed).then(|| packed + ONE_RUNNING);
        self.counts.fetch_update(AcqRel, Acquire, taken).is_ok()
    }

    /// Looks and steps at one moment: a slot given back in between, without a lock as long as nobody waits,
    /// would be seen by nobody.
    fn take_place(&self) -> Option<Place> {
        let taken = |packed| {
            if self.is_free(packed) {
                Some(packed + ONE_RUNNING)
            } else {
                (unpack(packed).waiting < self.max_waiting).then(|| packed + 1)
            }
        };
        let before = self.counts.fetch_update(AcqRel, Acquire, taken).ok()?;
        Some(if self.is_free(before) {
            Place::Slot
        } else {
            Place::Queue
        })
    }

    fn is_free(&self, packed: u64) -> bool {
        let Counts { running, waiting } = unpack(packed);
        waiting == 0 && running < self.size
    }

    fn free_slot(&self) -> bool {
        let freed = |packed| (unpack(packed).waiting == 0).then(|| packed - ONE_RUNNING);
        self.counts.fetch_update(AcqRel, Acquire, freed).is_ok()
    }
}

fn unpack(packed: u64) -> Counts {
    Counts {
        running: (packed >> 32) as u32,
        waiting: packed as u32,
    }
}
