use std::mem::size_of;
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;

use super::circuits::{Circuits, Ticket};
use super::durations::Durations;
use super::node::Node;
use crate::address;
use crate::breaker::{Caller, Outcome, Settings, Transition};
use crate::clock::Nanos;
use crate::retry::Budget;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{ArcSwap, RandomState, RwLock};

/// How many cool-downs a circuit is remembered for which nothing of note happens.
const KEEP_COOLDOWNS: u64 = 10;

/// What the gateway remembers of the calls of one function. It outlives the compiled form of the function, so
/// that storing it again forgives nothing.
#[derive(Debug)]
pub struct CallStats {
    name: [Box<str>; 3],
    // Only of functions with sticky values.
    key: OnceLock<Arc<[u8]>>,
    circuits: Circuits,
    // Most functions are not tried again, and a budget takes 300 bytes.
    budget: OnceLock<Box<Budget>>,
    // Only of functions that go to the least busy node.
    durations: OnceLock<Box<Durations>>,
    policy: Arc<Policy>,
}

/// How circuits are made: nothing where they are switched off.
#[derive(Debug, Default)]
struct Policy {
    settings: ArcSwap<Option<Settings>>,
}

impl CallStats {
    /// The function: service, request type and version.
    #[must_use]
    pub fn name(&self) -> [&str; 3] {
        self.name.each_ref().map(|part| &**part)
    }

    /// What it is called in [`super::Mode::Sticky`]: the same bytes for all routes of the function, which each
    /// remembered value holds on to.
    #[must_use]
    pub fn key(&self) -> &Arc<[u8]> {
        self.key
            .get_or_init(|| self.name().join("\0").into_bytes().into())
    }

    /// Its circuits.
    #[must_use]
    pub fn circuits(&self) -> &Circuits {
        &self.circuits
    }

    /// Its retries.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.budget.get_or_init(Box::default)
    }

    /// How long its calls take.
    #[must_use]
    pub fn durations(&self) -> &Durations {
        self.durations.get_or_init(Box::default)
    }

    /// A call of `node` has ended, of a function that goes to the least busy node. One that failed counts as load
    /// for as long as a good one takes.
    pub fn record_duration(&self, node: &Node, well: bool, began: Nanos, now: Nanos) {
        let durations = self.durations();
        if well {
            durations.add(now.saturating_sub(began), now);
        } else if let Some(median) = durations.median(now) {
            let until = began.saturating_add(median);
            if until > now {
                node.add_failed_load(until);
            }
        }
    }

    /// A call of `node` has ended; `ticket` is what [`Circuits::enter`] gave. `now` is asked only if it matters.
    #[inline]
    pub fn leave(
        &self,
        node: &Arc<Node>,
        ticket: Option<&Ticket>,
        outcome: Outcome,
        caller: Option<Caller>,
        now: impl FnOnce() -> Nanos,
    ) -> Transition {
        let policy = || **self.policy.settings.load();
        self.circuits
            .leave(node, ticket, outcome, caller, policy, now)
    }

    fn is_idle(&self, now: Nanos) -> bool {
        !self.circuits.any()
            && self.budget.get().is_none_or(|budget| budget.is_idle(now))
            && self
                .durations
                .get()
                .is_none_or(|durations| durations.is_idle(now))
    }
}

/// The call statistics of all functions.
#[derive(Debug)]
pub struct CallStatsTable {
    table: RwLock<HashTable<Arc<CallStats>>>,
    hasher: RandomState,
    policy: Arc<Policy>,
    /// Bits of an IPv6 address that count.
    ipv6_prefix: AtomicU64,
}

impl Default for CallStatsTable {
    fn default() -> Self {
        Self {
            table: RwLock::default(),
            hasher: RandomState::default(),
            policy: Arc::default(),
            ipv6_prefix: AtomicU64::new(address::IPV6_PREFIX.into()),
        }
    }
}

/// How a caller is known.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallerKind {
    /// By its user.
    User,
    /// An anonymous client, by its address.
    Address,
}

/// A circuit that was dropped while it was not closed.
pub type DroppedCircuit = (Arc<CallStats>, Arc<Node>);

impl CallStatsTable {
    /// The statistics of that function, the same as long as anybody holds it or there is anything in it.
    pub fn of_function(&self, name: [&str; 3]) -> Arc<CallStats> {
        let hash = self.hasher.hash_one(name);
        let known = |stats: &Arc<CallStats>| stats.name() == name;
        if let Some(stats) = self.table.read().find(hash, known) {
            return Arc::clone(stats);
        }
        let mut table = self.table.write();
        let entry = table.entry(hash, known, |stats| self.hasher.hash_one(stats.name()));
        let new = || {
            Arc::new(CallStats {
                name: name.map(Box::from),
                key: OnceLock::new(),
                circuits: Circuits::default(),
                budget: OnceLock::new(),
                durations: OnceLock::new(),
                policy: Arc::clone(&self.policy),
            })
        };
        Arc::clone(entry.or_insert_with(new).get())
    }

    /// What stands for a user or an address in a circuit; another one in each process. Addresses with the same
    /// first `ipv6_prefix` bits are one client, as in the rate limiter.
    #[must_use]
    pub fn caller(&self, kind: CallerKind, name: &[u8]) -> Caller {
        let prefix = || self.ipv6_prefix.load(Relaxed) as u8;
        let address = match kind {
            CallerKind::User => None,
            CallerKind::Address => address::key(name, prefix()),
        };
        let name = address.as_deref().unwrap_or(name);
        Caller(self.hasher.hash_one((kind, name)) as u32)
    }

    /// How many bits of an IPv6 address count. 64 by default, at most 128.
    pub fn set_ipv6_prefix(&self, bits: u8) {
        self.ipv6_prefix.store(bits.min(128).into(), Relaxed);
    }

    /// Sets how circuits work from now on, or switches them off. Every circuit is dropped, unless this is what
    /// they work by already; returns those that were not closed.
    pub fn configure(&self, settings: Option<Settings>, now: Nanos) -> Vec<DroppedCircuit> {
        if **self.policy.settings.load() == settings {
            return Vec::new();
        }
        self.policy.settings.store(Arc::new(settings));
        self.forget(now, None)
    }

    /// Forgets circuits for which nothing has happened for ten cool-downs, and functions that nobody holds and
    /// that have nothing to remember. Returns the circuits that were not closed.
    ///
    /// Walks all functions, some 10 ns each: for a periodic task.
    pub fn sweep(&self, now: Nanos) -> Vec<DroppedCircuit> {
        let cooldown = self
            .policy
            .settings
            .load()
            .as_ref()
            .as_ref()
            .map(|s| s.cooldown);
        let keep = cooldown.map(|Nanos(cooldown)| Nanos(cooldown.saturating_mul(KEEP_COOLDOWNS)));
        let forgotten = self.forget(now, keep);
        let mut table = self.table.write();
        // Nobody can clone the table's own handle while the lock is held.
        table.retain(|stats| Arc::strong_count(stats) > 1 || !stats.is_idle(now));
        if table.len() < table.capacity() / 4 {
            table.shrink_to_fit(|stats| self.hasher.hash_one(stats.name()));
        }
        forgotten
    }

    /// The node was reached again: what had failed there is tried at once. One call of each function whose
    /// circuit is open decides; the failures of a node that was down say little of the one that came back.
    ///
    /// Walks all functions, a few ns each.
    pub fn end_cooldown(&self, node: &Arc<Node>, now: Nanos) {
        for stats in self.table.read().iter() {
            stats.circuits.end_cooldown(node, now);
        }
    }

    /// Every function.
    pub fn all(&self) -> Vec<Arc<CallStats>> {
        self.table.read().iter().map(Arc::clone).collect()
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.table.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, in bytes, without the allocator's own overhead.
    pub fn bytes(&self) -> usize {
        let table = self.table.read();
        let fixed = size_of::<CallStats>() + 2 * size_of::<usize>();
        let each = table.iter().map(|stats| {
            let names: usize = stats.name.iter().map(|part| part.len()).sum();
            let budget = stats.budget.get().map_or(0, |_| size_of::<Budget>());
            let durations = stats.durations.get();
            let durations = durations.map_or(0, |d| size_of::<Durations>() + d.bytes());
            let key = stats.key.get().map_or(0, |key| key.len());
            fixed + names + key + stats.circuits.bytes() + budget + durations
        });
        table.capacity() * (size_of::<Arc<CallStats>>() + 1) + each.sum::<usize>()
    }

    fn forget(&self, now: Nanos, keep: Option<Nanos>) -> Vec<DroppedCircuit> {
        let table = self.table.read();
        let open = |stats: &Arc<CallStats>| {
            let nodes = stats.circuits.forget(now, keep);
            let forgotten = |node| (Arc::clone(stats), node);
            nodes.into_iter().map(forgotten).collect::<Vec<_>>()
        };
        table.iter().flat_map(open).collect()
    }
}
