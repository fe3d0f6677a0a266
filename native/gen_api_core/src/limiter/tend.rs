use super::hasher::Hasher;
use super::pool::Pool;
use super::shard::{Place, Shard, Window};
use crate::clock::Nanos;

/// Windows looked at when a check finds no room.
const GLANCE: usize = 32;

/// What a part of a sweep did.
pub(super) struct Tended {
    /// Looks at a window.
    pub(super) seen: usize,
    /// Windows dropped.
    pub(super) dropped: usize,
    /// The windows below this one were not seen yet.
    pub(super) next: usize,
}

/// What became of a window that was tended.
#[derive(PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
    /// Dead, with more memory than is freed at a time.
    Dying,
}

impl Shard {
    /// Tends a few windows, all if there are no more; for a check that finds no room.
    pub(super) fn glance(&mut self, now: Nanos, hasher: &Hasher, pool: &Pool) {
        let all = self.windows.len() <= GLANCE || self.glance_from == 0;
        let from = if all { usize::MAX } else { self.glance_from };
        let budget = GLANCE.min(self.windows.len());
        self.glance_from = self.tend_down(from, budget, now, hasher, pool).next;
    }

    /// Tends the window of one charge; for a check that finds no room.
    pub(super) fn tend_place(&mut self, place: Place, now: Nanos, hasher: &Hasher, pool: &Pool) {
        if let Some(slot) = place.slot {
            self.tend(slot as usize, now, hasher, pool);
        }
    }

    /// Tends at most `budget` windows and goes on with the next call.
    pub(super) fn sweep(
        &mut self,
        now: Nanos,
        budget: usize,
        hasher: &Hasher,
        pool: &Pool,
    ) -> Tended {
        let from = self.sweep_from.unwrap_or(usize::MAX);
        let tended = self.tend_down(from, budget, now, hasher, pool);
        self.sweep_from = (tended.next > 0).then_some(tended.next);
        self.shrink_index();
        tended
    }

    /// Tends at most `budget` windows below `from`, downwards: a removal moves the last window, which was seen
    /// already.
    fn tend_down(
        &mut self,
        from: usize,
        budget: usize,
        now: Nanos,
        hasher: &Hasher,
        pool: &Pool,
    ) -> Tended {
        let mut tended = Tended {
            seen: 0,
            dropped: 0,
            next: from.min(self.windows.len()),
        };
        while tended.seen < budget && tended.next > 0 {
            let fate = self.tend(tended.next - 1, now, hasher, pool);
            tended.seen += 1;
            tended.dropped += usize::from(fate == Fate::Dropped);
            tended.next -= usize::from(fate != Fate::Dying);
        }
        tended
    }

    /// Frees what a window no longer needs, and the window itself if that is all of it.
    fn tend(&mut self, slot: usize, now: Nanos, hasher: &Hasher, pool: &Pool) -> Fate {
        let floor = self.floor;
        let mut seen = None;
        self.change(slot, pool, |window| {
            let kind = window.family.kind();
            if window.family.is_forgotten() {
                return window.state.empty(floor);
            }
            let released = kind.trim(&mut window.state, now);
            seen = Some(window.state.clock().max(now));
            released
        });
        let alive = |window: &Window| !window.state.is_empty();
        if self.windows.get(slot).is_some_and(alive) {
            return Fate::Kept;
        }
        if !self.drop_if_empty(slot, hasher) {
            return Fate::Dying;
        }
        self.floor = self.floor.max(seen.unwrap_or(floor));
        Fate::Dropped
    }
}
