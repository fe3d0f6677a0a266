use super::hasher::Hasher;
use super::pool::Pool;
use super::shard::{Place, Shard, Window};
use crate::clock::Nanos;

/// Windows looked at when a check finds no room.
const SAMPLE: usize = 32;

/// What a part of a sweep did.
pub(super) struct SweptSlice {
    /// Looks at a window.
    pub(super) seen: usize,
    /// Windows dropped.
    pub(super) dropped: usize,
    /// The windows below this one were not seen yet.
    pub(super) next: usize,
}

/// What became of a window that was swept.
#[derive(PartialEq, Eq)]
enum Fate {
    Kept,
    Dropped,
    /// Dead, with more memory than is freed at a time.
    Dying,
}

impl Shard {
    /// Sweeps a few windows, all if there are no more; for a check that finds no room.
    pub(super) fn sample(&mut self, now: Nanos, hasher: &Hasher, pool: &Pool) {
        let all = self.windows.len() <= SAMPLE || self.sample_from == 0;
        let from = if all { usize::MAX } else { self.sample_from };
        let budget = SAMPLE.min(self.windows.len());
        self.sample_from = self.sweep_down(from, budget, now, hasher, pool).next;
    }

    /// Sweeps the window of one charge; for a check that finds no room.
    pub(super) fn sweep_place(&mut self, place: Place, now: Nanos, hasher: &Hasher, pool: &Pool) {
        if let Some(slot) = place.slot {
            self.sweep_window(slot as usize, now, hasher, pool);
        }
    }

    /// Sweeps at most `budget` windows and goes on with the next call.
    pub(super) fn sweep(
        &mut self,
        now: Nanos,
        budget: usize,
        hasher: &Hasher,
        pool: &Pool,
    ) -> SweptSlice {
        let from = self.sweep_from.unwrap_or(usize::MAX);
        let swept = self.sweep_down(from, budget, now, hasher, pool);
        self.sweep_from = (swept.next > 0).then_some(swept.next);
        self.shrink_index();
        swept
    }

    /// Sweeps at most `budget` windows below `from`, downwards: a removal moves the last window, which was seen
    /// already.
    fn sweep_down(
        &mut self,
        from: usize,
        budget: usize,
        now: Nanos,
        hasher: &Hasher,
        pool: &Pool,
    ) -> SweptSlice {
        let mut swept = SweptSlice {
            seen: 0,
            dropped: 0,
            next: from.min(self.windows.len()),
        };
        while swept.seen < budget && swept.next > 0 {
            let fate = self.sweep_window(swept.next - 1, now, hasher, pool);
            swept.seen += 1;
            swept.dropped += usize::from(fate == Fate::Dropped);
            swept.next -= usize::from(fate != Fate::Dying);
        }
        swept
    }

    /// Frees what a window no longer needs, and the window itself if that is all of it.
    fn sweep_window(&mut self, slot: usize, now: Nanos, hasher: &Hasher, pool: &Pool) -> Fate {
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
