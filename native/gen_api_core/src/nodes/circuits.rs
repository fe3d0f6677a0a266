use std::mem::size_of;
use std::sync::Arc;

use super::candidates::Candidates;
use super::node::Node;
use crate::breaker::{Breaker, Caller, Check, Outcome, Permit, Settings, State, Transition};
use crate::clock::Nanos;
use crate::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};
use crate::sync::{ArcSwap, Guard, Mutex};

/// Most nodes of one function that have a circuit. A list that is worked out for each request may name others
/// every time; the failures of more nodes than this are not noted.
pub const MAX_CIRCUITS: usize = 1_024;

/// From so many candidates on, open circuits are ignored where they leave fewer than half of them.
const MIN_CANDIDATES: usize = 3;

/// The circuits of one function: a breaker for each node that was called lately.
///
/// A breaker comes with the first call, or there would be no share of the calls that failed, and goes when
/// nothing of note has happened for long. While none is open, a choice among nodes pays one load.
#[derive(Debug, Default)]
pub struct Circuits {
    any: AtomicBool,
    /// Whether one may be open.
    may_be_open: AtomicBool,
    /// In the order of the nodes' addresses.
    list: ArcSwap<List>,
    writer: Mutex<()>,
}

/// The circuit between one function and one node.
#[derive(Debug)]
pub struct Circuit {
    node: Arc<Node>,
    breaker: Breaker,
    /// When it was last made, failed or was probed.
    noted: AtomicU64,
    dropped: AtomicBool,
}

impl Circuit {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self, now: Nanos) -> State {
        self.breaker.state(now)
    }

    /// The failures that count now, while it is closed.
    #[must_use]
    pub fn failures(&self, now: Nanos) -> u32 {
        self.breaker.failures(now)
    }

    fn is_closed(&self, now: Nanos) -> bool {
        self.state(now) == State::Closed
    }

    /// `now`, or any time at all where no time matters: reading the clock takes longer than all the rest.
    fn time(&self, now: impl FnOnce() -> Nanos) -> Nanos {
        // At the origin a cool-down is over only for a breaker that is not open.
        if self.breaker.would_allow(Nanos::ZERO) {
            Nanos::ZERO
        } else {
            now()
        }
    }

    fn record(
        &self,
        permit: Permit,
        outcome: Outcome,
        caller: Option<Caller>,
        now: Nanos,
    ) -> Transition {
        if outcome != Outcome::Success {
            self.noted.fetch_max(now.0, Relaxed);
        }
        let transition = self.breaker.record(permit, outcome, caller, now);
        // Nobody asks it any more, so nothing has opened or closed.
        if self.dropped.load(Acquire) {
            Transition::None
        } else {
            transition
        }
    }
}

type List = Vec<Arc<Circuit>>;

/// The circuits at one moment, for a choice among nodes.
pub struct CircuitView<N>(Option<(Guard<Arc<List>>, N)>);

impl<N: Fn() -> Nanos> CircuitView<N> {
    /// The same for a choice among these: of at least three, of which fewer than half are usable, none is passed
    /// over because of a circuit. What is left would only be overrun in their place.
    #[must_use]
    pub fn among(self, candidates: &Candidates) -> Self {
        if self.0.is_none() || candidates.len() < MIN_CANDIDATES {
            return self;
        }
        let usable = |&index: &usize| candidates.is_up(index) && self.allows(candidates.get(index));
        if (0..candidates.len()).filter(usable).count() * 2 < candidates.len() {
            Self(None)
        } else {
            self
        }
    }

    /// Whether the node may be called.
    #[inline]
    #[must_use]
    pub fn allows(&self, node: Option<&Arc<Node>>) -> bool {
        match (&self.0, node) {
            (None, _) | (_, None) => true,
            (Some((list, now)), Some(node)) => {
                of(list, node).is_none_or(|circuit| circuit.breaker.would_allow(circuit.time(now)))
            }
        }
    }
}

/// The right to make a call, where there is a circuit.
#[derive(Debug)]
pub struct Ticket {
    circuit: Arc<Circuit>,
    permit: Permit,
    probe: bool,
    used: AtomicBool,
}

impl Ticket {
    /// Whether the circuit waits for its outcome.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// The call was not made, or says nothing, or nobody is left to say anything. After an outcome was recorded
    /// this does nothing.
    pub fn give_back(&self, now: impl FnOnce() -> Nanos) {
        if !self.used.swap(true, Relaxed) {
            self.circuit.breaker.give_back(self.permit, now());
        }
    }
}

/// The answer to a call that wants to be made.
#[derive(Debug)]
pub enum Entry {
    /// There is no circuit, or it is ignored.
    Free,
    /// Closed, or open and this is the probe. The outcome is due.
    Ticket(Ticket),
    /// Open.
    Refused,
}

impl Circuits {
    /// Whether there is any circuit.
    #[inline]
    #[must_use]
    pub fn any(&self) -> bool {
        self.any.load(Relaxed)
    }

    /// Whether there is one of that node.
    #[must_use]
    pub fn has(&self, node: &Arc<Node>) -> bool {
        self.any() && self.find(node).is_some()
    }

    /// The circuits as they are now. `now` is asked only where one is open.
    #[inline]
    pub fn view<N: Fn() -> Nanos>(&self, now: N) -> CircuitView<N> {
        let may_be_open = self.may_be_open.load(Acquire);
        CircuitView(may_be_open.then(|| (self.list.load(), now)))
    }

    /// Asks to call a candidate, whose circuit is ignored as [`CircuitView::among`] says.
    #[inline]
    pub fn enter_among(
        &self,
        candidates: &Candidates,
        node: &Arc<Node>,
        now: impl Fn() -> Nanos,
    ) -> Entry {
        match self.enter(node, &now) {
            Entry::Refused if self.view(now).among(candidates).allows(Some(node)) => Entry::Free,
            entry => entry,
        }
    }

    /// Asks to call `node`.
    #[inline]
    pub fn enter(&self, node: &Arc<Node>, now: impl FnOnce() -> Nanos) -> Entry {
        if !self.any() {
            return Entry::Free;
        }
        let Some(circuit) = self.find(node) else {
            return Entry::Free;
        };
        let now = circuit.time(now);
        let (permit, probe) = match circuit.breaker.check(now) {
            Check::Allow(permit) => (permit, false),
            Check::Probe(permit) => {
                circuit.noted.fetch_max(now.0, Relaxed);
                (permit, true)
            }
            Check::Deny { .. } => return Entry::Refused,
        };
        Entry::Ticket(Ticket {
            circuit,
            permit,
            probe,
            used: AtomicBool::new(false),
        })
    }

    /// A call of `node` has ended. `policy` is asked when a circuit is to be made, which it may refuse.
    #[inline]
    pub fn leave(
        &self,
        node: &Arc<Node>,
        ticket: Option<&Ticket>,
        outcome: Outcome,
        caller: Option<Caller>,
        policy: impl Fn() -> Option<Settings>,
        now: impl FnOnce() -> Nanos,
    ) -> Transition {
        let transition = match ticket {
            None => self.leave_free(node, outcome, caller, policy, now),
            Some(ticket) if ticket.used.swap(true, Relaxed) => Transition::None,
            Some(ticket) => ticket.circuit.record(ticket.permit, outcome, caller, now()),
        };
        if matches!(transition, Transition::Opened { .. }) {
            self.may_be_open.swap(true, AcqRel);
        }
        transition
    }

    /// It began when there was no circuit, which is as in the first period of one.
    fn leave_free(
        &self,
        node: &Arc<Node>,
        outcome: Outcome,
        caller: Option<Caller>,
        policy: impl Fn() -> Option<Settings>,
        now: impl FnOnce() -> Nanos,
    ) -> Transition {
        let circuit = self.find(node).or_else(|| self.create(node, policy));
        circuit.map_or(Transition::None, |circuit| {
            circuit.record(Permit::FIRST, outcome, caller, now())
        })
    }

    /// The node was reached again: if its circuit is open, the next call is the probe.
    pub fn end_cooldown(&self, node: &Arc<Node>, now: Nanos) {
        if self.any() {
            if let Some(circuit) = self.find(node) {
                circuit.breaker.end_cooldown(now);
            }
        }
    }

    /// Drops circuits for which nothing of note has happened for `keep`, or all of them; returns those that were
    /// not closed. Their nodes are called again.
    pub fn forget(&self, now: Nanos, keep: Option<Nanos>) -> Vec<Arc<Node>> {
        // One that is just being made by the policy before has to be waited for.
        if keep.is_some() && !self.any() {
            return Vec::new();
        }
        let _guard = self.writer.lock();
        let (kept, dropped): (Vec<_>, Vec<_>) = self.all().into_iter().partition(|circuit| {
            let quiet = now.saturating_sub(Nanos(circuit.noted.load(Relaxed)));
            let in_use = circuit.is_closed(now) && !circuit.breaker.is_idle(now);
            keep.is_some_and(|keep| quiet < keep || in_use)
        });
        // One that opens from here on says so again.
        if self.may_be_open.swap(false, AcqRel)
            && !kept.iter().all(|circuit| circuit.is_closed(now))
        {
            self.may_be_open.swap(true, AcqRel);
        }
        if !dropped.is_empty() {
            self.publish(kept);
        }
        let open = dropped.into_iter().filter(|circuit| {
            circuit.dropped.store(true, Release);
            !circuit.is_closed(now)
        });
        open.map(|circuit| Arc::clone(&circuit.node)).collect()
    }

    /// Every circuit.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Circuit>> {
        self.list.load().to_vec()
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let each = size_of::<Circuit>() + size_of::<Arc<Circuit>>() + 2 * size_of::<usize>();
        let list = self.list.load();
        list.iter()
            .map(|circuit| each + circuit.breaker.bytes())
            .sum()
    }

    fn find(&self, node: &Arc<Node>) -> Option<Arc<Circuit>> {
        of(&self.list.load(), node).cloned()
    }

    fn create(
        &self,
        node: &Arc<Node>,
        policy: impl Fn() -> Option<Settings>,
    ) -> Option<Arc<Circuit>> {
        // Where there are to be none, calls do not meet at the lock.
        if policy().is_none() || self.list.load().len() >= MAX_CIRCUITS {
            return None;
        }
        let _guard = self.writer.lock();
        if let Some(circuit) = self.find(node) {
            return Some(circuit);
        }
        // Asked now: who changes the policy drops all circuits afterwards, when it is its turn.
        let settings = policy()?;
        let mut list = self.all();
        if list.len() >= MAX_CIRCUITS {
            return None;
        }
        let circuit = Arc::new(Circuit {
            node: Arc::clone(node),
            breaker: Breaker::new(settings),
            noted: AtomicU64::new(0),
            dropped: AtomicBool::new(false),
        });
        let place = list.partition_point(|other| address(&other.node) < address(node));
        list.insert(place, Arc::clone(&circuit));
        self.publish(list);
        Some(circuit)
    }

    fn publish(&self, list: Vec<Arc<Circuit>>) {
        self.any.store(!list.is_empty(), Relaxed);
        self.list.store(Arc::new(list));
    }
}

fn of<'l>(list: &'l List, node: &Arc<Node>) -> Option<&'l Arc<Circuit>> {
    let place = list.binary_search_by_key(&address(node), |circuit| address(&circuit.node));
    list.get(place.ok()?)
}

fn address(node: &Arc<Node>) -> usize {
    Arc::as_ptr(node).addr()
}
