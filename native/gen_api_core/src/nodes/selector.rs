use std::sync::Arc;

use smallvec::SmallVec;

use super::call_stats::CallStatsTable;
use super::candidates::Candidates;
use super::cursor::{Cursor, Cursors};
use super::hash::key_hash;
use super::node::NodeStatus;
use super::registry::Registry;
use super::rendezvous;
use super::rng::{with_thread_rng, Rng};
use super::sticky::{Sticky, StickyLimits};
use super::usable::UsableSet;
use super::weights::Weights;
use crate::clock::Nanos;

/// Most round-robin cursors remembered by function.
const MAX_CURSORS: usize = 100_000;

/// Indices of candidates, best first.
pub type Order = SmallVec<[u32; 16]>;

/// How a function spreads its calls.
#[derive(Debug, Clone)]
pub enum Mode {
    /// Each usable candidate is equally likely.
    Random,
    /// The key decides: highest random weight.
    Rendezvous,
    /// In turn.
    RoundRobin(Arc<Cursor>),
    /// The node the key went to last; the first time as [`Mode::Rendezvous`].
    Sticky {
        /// Identifies the function: each has a memory of its own.
        function: Arc<[u8]>,
    },
    /// Fewest calls in flight, those that failed too fast included; ties at random.
    LeastBusy,
    /// Likely in proportion to its weight.
    Weighted(Weights),
}

/// Why a candidate was passed over.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Obstacle {
    /// The node is down.
    Down,
    /// The node is draining.
    Draining,
    /// The caller's own check refused it: for this function, the circuit to the node is open.
    CircuitOpen,
}

/// Why there was nothing to pick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No candidates, or those that could be used all weigh 0.
    NoNodes,
    /// What is wrong with each candidate, in the order they are listed.
    AllUnavailable(Vec<(usize, Obstacle)>),
}

/// One instance of node selection: all nodes, cursors, sticky entries and call statistics of a gateway.
///
/// A candidate is usable when its node is up and the caller's `usable` says so too. `usable` is asked about
/// candidates that are then not picked, and not about all of them; it must be cheap and change nothing.
#[derive(Debug)]
pub struct Selector {
    registry: Registry,
    cursors: Cursors,
    sticky: Sticky,
    call_stats: CallStatsTable,
}

impl Selector {
    /// An instance that knows nothing yet.
    #[must_use]
    pub fn new(sticky: StickyLimits) -> Self {
        Self {
            registry: Registry::default(),
            cursors: Cursors::new(MAX_CURSORS),
            sticky: Sticky::new(sticky),
            call_stats: CallStatsTable::default(),
        }
    }

    /// The nodes known to this instance.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The memory of [`Mode::Sticky`].
    #[must_use]
    pub fn sticky(&self) -> &Sticky {
        &self.sticky
    }

    /// The cursors remembered for [`Mode::RoundRobin`], at most 100,000.
    #[must_use]
    pub fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    /// What is remembered of the calls of each function.
    #[must_use]
    pub fn call_stats(&self) -> &CallStatsTable {
        &self.call_stats
    }

    /// The round-robin cursor of that function, the same each time.
    pub fn cursor(&self, function: &[u8]) -> Arc<Cursor> {
        self.cursors.cursor(function)
    }

    /// Every round robin starts over with its first node.
    pub fn reset_round_robin(&self) {
        self.cursors.reset();
    }

    /// Memory held by all parts together, in bytes.
    pub fn bytes(&self) -> usize {
        self.registry.bytes() + self.cursors.bytes() + self.sticky.bytes() + self.call_stats.bytes()
    }

    /// The best usable candidate, or `None` when no candidate is usable ([`Selector::unavailable`] says why).
    /// Does not allocate, except when a sticky value is remembered for the first time and beyond 1,024
    /// candidates.
    ///
    /// `key` decides in the modes rendezvous and sticky and is ignored by the others; a missing one counts as
    /// empty. `now` matters to sticky and least busy only.
    #[inline]
    pub fn pick(
        &self,
        candidates: &Candidates,
        mode: &Mode,
        key: Option<&[u8]>,
        now: Nanos,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        with_thread_rng(|rng| self.pick_with(rng, candidates, mode, key, now, usable))
    }

    /// [`Selector::pick`] with the caller's generator, for a result that can be repeated.
    pub fn pick_with(
        &self,
        rng: &mut Rng,
        candidates: &Candidates,
        mode: &Mode,
        key: Option<&[u8]>,
        now: Nanos,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let usable = |index| candidates.is_up(index) && usable(index);
        let key = key.unwrap_or_default();
        match mode {
            Mode::Random => pick_random(candidates, usable, rng),
            Mode::Rendezvous => rendezvous::best(candidates, key_hash(key), usable),
            Mode::RoundRobin(cursor) => {
                let set = UsableSet::collect(candidates.len(), usable);
                set.nth(cursor.turn(set.len() as u64) as usize)
            }
            Mode::Sticky { function } => self.pick_sticky(candidates, function, key, now, usable),
            Mode::LeastBusy => pick_least_busy(candidates, usable, rng, now),
            Mode::Weighted(weights) => weights.draw(candidates, usable, rng),
        }
    }

    /// All usable candidates, best first; weight 0 counts as unusable. Takes one turn of a round robin and
    /// remembers its first candidate in sticky mode, as one [`Selector::pick`] does.
    pub fn order(
        &self,
        candidates: &Candidates,
        mode: &Mode,
        key: Option<&[u8]>,
        now: Nanos,
        usable: impl Fn(usize) -> bool,
    ) -> Order {
        with_thread_rng(|rng| self.order_with(rng, candidates, mode, key, now, usable))
    }

    /// [`Selector::order`] with the caller's generator, for a result that can be repeated.
    pub fn order_with(
        &self,
        rng: &mut Rng,
        candidates: &Candidates,
        mode: &Mode,
        key: Option<&[u8]>,
        now: Nanos,
        usable: impl Fn(usize) -> bool,
    ) -> Order {
        let usable = |index| candidates.is_up(index) && usable(index);
        let key = key.unwrap_or_default();
        match mode {
            Mode::Random => {
                let mut order = listed(candidates, usable);
                rng.shuffle(&mut order);
                order
            }
            Mode::Rendezvous => rendezvous::order(candidates, key_hash(key), usable),
            Mode::RoundRobin(cursor) => {
                let mut order = listed(candidates, usable);
                let turn = cursor.turn(order.len() as u64) as usize;
                order.rotate_left(turn);
                order
            }
            Mode::Sticky { function } => {
                // One answer per candidate for both steps: the pick has to be part of the order.
                let set = UsableSet::collect(candidates.len(), usable);
                let usable = |index| set.contains(index);
                let first = self.pick_sticky(candidates, function, key, now, usable);
                let mut order = rendezvous::order(candidates, key_hash(key), usable);
                let first = order
                    .iter()
                    .position(|&index| Some(index as usize) == first);
                if let Some(to_front) = first.and_then(|first| order.get_mut(..=first)) {
                    to_front.rotate_right(1);
                }
                order
            }
            Mode::LeastBusy => {
                let mut order = listed(candidates, usable);
                rng.shuffle(&mut order);
                // Stable, so that ties stay shuffled; cached, so that each load is read once.
                order.sort_by_cached_key(|&index| load(candidates, index as usize, now));
                order
            }
            Mode::Weighted(weights) => weights.order(candidates, usable, rng),
        }
    }

    /// Why [`Selector::pick`] found nothing. Looks at the nodes once more, so candidates that have become usable
    /// in the meantime are missing from the answer.
    pub fn unavailable(
        &self,
        candidates: &Candidates,
        mode: &Mode,
        usable: impl Fn(usize) -> bool,
    ) -> Unavailable {
        let obstacle = |(index, status)| match status {
            NodeStatus::Down => Some((index, Obstacle::Down)),
            NodeStatus::Draining => Some((index, Obstacle::Draining)),
            NodeStatus::Up => (!usable(index)).then_some((index, Obstacle::CircuitOpen)),
        };
        let statuses = candidates.iter().map(|node| node.status());
        let obstacles: Vec<_> = statuses.enumerate().filter_map(obstacle).collect();
        let only_weightless =
            matches!(mode, Mode::Weighted(_)) && obstacles.len() < candidates.len();
        if candidates.is_empty() || only_weightless {
            Unavailable::NoNodes
        } else {
            Unavailable::AllUnavailable(obstacles)
        }
    }

    /// The remembered node while it is usable, else the rendezvous choice, remembered from then on.
    ///
    /// Nothing is locked while `usable` runs. Should another caller remember a node in between, it is that one's
    /// turn to be tried: callers of one value who see the same nodes usable get the same node.
    fn pick_sticky(
        &self,
        candidates: &Candidates,
        function: &Arc<[u8]>,
        value: &[u8],
        now: Nanos,
        usable: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let key = self.sticky.key(value);
        let wanted = self.sticky.wanted(function, &key);
        loop {
            let (seen, remembered) = self.sticky.recall(wanted, candidates, now);
            if remembered.is_some_and(&usable) {
                return remembered;
            }
            let chosen = rendezvous::best(candidates, key_hash(value), &usable)?;
            let node = candidates.get(chosen)?;
            if self.sticky.remember(wanted, seen, node, chosen, now) {
                return Some(chosen);
            }
        }
    }
}

/// One draw from all candidates first, which with healthy nodes is the only one. Given that it hit an unusable
/// one, the second draw, from the usable ones, keeps them equally likely.
fn pick_random(
    candidates: &Candidates,
    usable: impl Fn(usize) -> bool,
    rng: &mut Rng,
) -> Option<usize> {
    let drawn = rng.below(candidates.len() as u64) as usize;
    if usable(drawn) {
        return Some(drawn);
    }
    let set = UsableSet::collect(candidates.len(), usable);
    set.nth(rng.below(set.len() as u64) as usize)
}

/// Each of k ties replaces the one before with probability 1/k, which leaves all equally likely.
fn pick_least_busy(
    candidates: &Candidates,
    usable: impl Fn(usize) -> bool,
    rng: &mut Rng,
    now: Nanos,
) -> Option<usize> {
    let mut best = None;
    let mut lowest = u32::MAX;
    let mut ties = 0;
    for index in 0..candidates.len() {
        let load = load(candidates, index, now);
        if load > lowest || !usable(index) {
            continue;
        }
        ties = if load < lowest { 1 } else { ties + 1 };
        lowest = load;
        if rng.below(ties) == 0 {
            best = Some(index);
        }
    }
    best
}

fn load(candidates: &Candidates, index: usize, now: Nanos) -> u32 {
    candidates
        .get(index)
        .map_or(u32::MAX, |node| node.load(now))
}

fn listed(candidates: &Candidates, usable: impl Fn(usize) -> bool) -> Order {
    (0..candidates.len())
        .filter(|&index| usable(index))
        .map(|index| index as u32)
        .collect()
}
