//! Routes: the nodes of one function, how one of them is chosen, and by what value.

use crate::atoms;
use crate::candidate_set::CandidateSetResource;
use crate::decode::Map;
use crate::mode::{KeySource, ModeSpec};
use crate::node_selector::{now, SelectorResource};
use crate::plan::PlanResource;
use crate::routing_key;
use gen_api_core::breaker::Caller;
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{
    CallStats, CallerKind, Candidates, CircuitView, Entry, Flight, Members, Mode, Node, Obstacle,
    Place, SetWeights, Unavailable, Weights,
};
use rustler::{Atom, Encoder, Env, Error, NifResult, Resource, ResourceArc, Term};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The nodes of one function and how one of them is chosen.
pub struct Route {
    // Held here and not passed to each choice: to decode a handle takes some 15 ns.
    selector: ResourceArc<SelectorResource>,
    source: Source,
    stats: Arc<CallStats>,
    mode: Mode,
    key_source: Option<KeySource>,
    /// Whether its calls count as load. The gateway's own are not: all of them would share one counter.
    counted: bool,
}

/// Where the nodes come from.
enum Source {
    /// They stay, and the place of one is its index. Of a route of its own, whose nodes may be no atoms, only their
    /// names are known.
    List(Members<Atom>),
    /// They come and go, and a place outlives that.
    Set {
        set: ResourceArc<CandidateSetResource>,
        weights: Option<SetWeights>,
    },
}

/// A route of its own, for node lists that are worked out per request.
pub struct RouteResource(pub Route);

#[rustler::resource_impl]
impl Resource for RouteResource {}

impl std::panic::RefUnwindSafe for RouteResource {}

impl Route {
    /// For node names, of which one that is repeated counts once.
    pub fn new(
        selector: ResourceArc<SelectorResource>,
        function: [&str; 3],
        names: &[String],
        mode: ModeSpec,
    ) -> Self {
        Route::of_list(selector, function, names, Vec::new(), mode)
    }

    /// The same for node names that are atoms, which a pick then returns.
    pub fn of_atoms(
        env: Env<'_>,
        selector: ResourceArc<SelectorResource>,
        function: [&str; 3],
        mut nodes: Vec<Atom>,
        mode: ModeSpec,
    ) -> NifResult<Self> {
        let mut seen = HashSet::with_capacity(nodes.len());
        nodes.retain(|node| seen.insert(*node));
        let names = nodes
            .iter()
            .map(|node| node.to_term(env).atom_to_string())
            .collect::<NifResult<Vec<_>>>()?;
        Ok(Route::of_list(selector, function, &names, nodes, mode))
    }

    /// The same for the members of a set.
    pub fn of_set(
        selector: ResourceArc<SelectorResource>,
        function: [&str; 3],
        set: ResourceArc<CandidateSetResource>,
        mode: ModeSpec,
    ) -> Self {
        Route::of_source(selector, function, mode, |weights| {
            let weights = weights.map(SetWeights::new);
            (Source::Set { set, weights }, Weights::default())
        })
    }

    fn of_list(
        selector: ResourceArc<SelectorResource>,
        function: [&str; 3],
        names: &[String],
        atoms: Vec<Atom>,
        mode: ModeSpec,
    ) -> Self {
        let names = names.iter().map(String::as_str);
        let candidates = Candidates::new(selector.0.registry(), names);
        Route::of_source(selector, function, mode, |weights| {
            let weights = weights.map_or_else(Weights::default, |weights| {
                Weights::new(&candidates, |name| weights.get(name).copied())
            });
            (Source::List(Members::listed(candidates, atoms)), weights)
        })
    }

    fn of_source(
        selector: ResourceArc<SelectorResource>,
        function: [&str; 3],
        mode: ModeSpec,
        source: impl FnOnce(Option<HashMap<String, u32>>) -> (Source, Weights),
    ) -> Self {
        let stats = selector.0.call_stats().of_function(function);
        let mut weights = None;
        let (mode, key_source) = match mode {
            ModeSpec::Random => (Mode::Random, None),
            ModeSpec::Hash(key) => (Mode::Rendezvous, Some(key)),
            ModeSpec::Sticky(key) => {
                let function = Arc::clone(stats.key());
                (Mode::Sticky { function }, Some(key))
            }
            ModeSpec::RoundRobin => (
                Mode::RoundRobin(selector.0.cursor(&function.join("\0").into_bytes())),
                None,
            ),
            ModeSpec::LeastBusy => (Mode::LeastBusy, None),
            ModeSpec::Weighted(by_name) => {
                weights = Some(by_name);
                (Mode::Weighted(Weights::default()), None)
            }
        };
        let (source, weights) = source(weights);
        let mode = match mode {
            Mode::Weighted(_) => Mode::Weighted(weights),
            mode => mode,
        };
        Route {
            selector,
            source,
            stats,
            mode,
            key_source,
            counted: true,
        }
    }

    /// The calls are the gateway's own, and it is always there.
    pub fn uncounted(self) -> Self {
        Route {
            counted: false,
            ..self
        }
    }

    /// The candidates as they are now, and the mode for them.
    #[inline]
    fn with<R>(&self, then: impl FnOnce(&Members<Atom>, &Mode) -> R) -> R {
        match &self.source {
            Source::List(members) => then(members, &self.mode),
            Source::Set { set, weights: None } => then(&set.set().load(), &self.mode),
            Source::Set {
                set,
                weights: Some(weights),
            } => {
                let members = set.set().load();
                then(&members, weights.prepared(&members).mode())
            }
        }
    }

    #[inline]
    fn members<R>(&self, then: impl FnOnce(&Members<Atom>) -> R) -> R {
        match &self.source {
            Source::List(members) => then(members),
            Source::Set { set, .. } => then(&set.set().load()),
        }
    }

    /// What a call is counted on later.
    #[inline]
    fn place(&self, members: &Members<Atom>, index: usize) -> Option<u64> {
        match &self.source {
            Source::List(_) => Some(index as u64),
            Source::Set { .. } => members.place(index).map(Place::number),
        }
    }

    /// Hands the candidate at that place to `then`, if there is one now, with all candidates.
    #[inline]
    pub fn at_place<R>(
        &self,
        place: u64,
        then: impl FnOnce(Option<(&Arc<Node>, &Candidates)>) -> R,
    ) -> R {
        self.members(|members| {
            let index = match &self.source {
                Source::List(_) => usize::try_from(place).ok(),
                Source::Set { .. } => members.index(Place::from_number(place)),
            };
            let candidates = members.candidates();
            let node = index.and_then(|index| candidates.get(index));
            then(node.map(|node| (node, candidates)))
        })
    }

    /// One more call of `node`, where calls count as load.
    pub fn flight(&self, node: &Arc<Node>) -> Option<Flight> {
        self.counted.then(|| Flight::start(Arc::clone(node)))
    }

    /// Whether calls of `node` count as no load, and it has no circuit.
    pub fn needs_no_call(&self, node: &Arc<Node>) -> bool {
        !self.counted && !self.stats.circuits().has(node)
    }

    /// What is remembered of the function's calls.
    pub fn call_stats(&self) -> &Arc<CallStats> {
        &self.stats
    }

    /// Asks to call `node`, one of `candidates`.
    pub fn enter(&self, node: &Arc<Node>, candidates: &Candidates) -> Entry {
        self.stats.circuits().enter_among(candidates, node, now)
    }

    pub fn caller(&self, kind: CallerKind, name: &[u8]) -> Caller {
        self.selector.0.call_stats().caller(kind, name)
    }

    /// The nodes, if they come and go.
    pub fn set(&self) -> Option<&ResourceArc<CandidateSetResource>> {
        match &self.source {
            Source::List(_) => None,
            Source::Set { set, .. } => Some(set),
        }
    }

    fn view(&self, candidates: &Candidates) -> CircuitView<fn() -> Nanos> {
        let view = self.stats.circuits().view(now as fn() -> Nanos);
        view.among(candidates)
    }

    pub fn bytes(&self) -> usize {
        match &self.source {
            Source::List(members) => members.bytes(),
            Source::Set { weights, .. } => weights.as_ref().map_or(0, SetWeights::bytes),
        }
    }

    pub fn pick<'a>(&self, env: Env<'a>, key: Option<&[u8]>) -> Term<'a> {
        self.with(|members, mode| {
            let candidates = members.candidates();
            let view = self.view(candidates);
            let usable = |index| view.allows(candidates.get(index));
            let picked = self
                .selector
                .0
                .pick(candidates, mode, key, self.now(), usable);
            let choice = picked.and_then(|i| Some((*members.payload(i)?, self.place(members, i)?)));
            match choice {
                Some(choice) => choice.encode(env),
                None => atoms::none().encode(env),
            }
        })
    }

    pub fn order<'a>(&self, env: Env<'a>, key: Option<&[u8]>) -> Term<'a> {
        self.with(|members, mode| {
            let candidates = members.candidates();
            let view = self.view(candidates);
            let usable = |index| view.allows(candidates.get(index));
            let order = self
                .selector
                .0
                .order(candidates, mode, key, self.now(), usable);
            let choice = |index: &u32| {
                let index = *index as usize;
                let place = self.place(members, index);
                Some((name(env, members, index)?, place?).encode(env))
            };
            order
                .iter()
                .filter_map(choice)
                .collect::<Vec<_>>()
                .encode(env)
        })
    }

    /// Why there is no usable node.
    pub fn unavailable<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.with(|members, mode| {
            let candidates = members.candidates();
            let view = self.view(candidates);
            let usable = |index| view.allows(candidates.get(index));
            match self.selector.0.unavailable(candidates, mode, usable) {
                Unavailable::NoNodes => atoms::no_nodes().encode(env),
                Unavailable::AllUnavailable(obstacles) => obstacles
                    .into_iter()
                    .filter_map(|(index, why)| {
                        Some((name(env, members, index)?, obstacle(why)).encode(env))
                    })
                    .collect::<Vec<_>>()
                    .encode(env),
            }
        })
    }

    /// When a call begins, where it matters how long calls take.
    pub fn began(&self) -> Option<Nanos> {
        matches!(self.mode, Mode::LeastBusy).then(now)
    }

    /// Reading the clock takes longer than most choices, and only these two look at it.
    fn now(&self) -> Nanos {
        match self.mode {
            Mode::Sticky { .. } | Mode::LeastBusy => now(),
            _ => Nanos::ZERO,
        }
    }

    /// Hands the bytes to route by to `then`.
    pub fn with_routing_key<'a>(
        &self,
        env: Env<'a>,
        request: Map<'a>,
        then: impl FnOnce(Option<&[u8]>) -> Term<'a>,
    ) -> Term<'a> {
        match &self.key_source {
            None => then(None),
            Some(source) => routing_key::with(source, env, request, |key| then(Some(key))),
        }
    }
}

/// The node as a pick returns it; of a route of its own, its name.
fn name<'a>(env: Env<'a>, members: &Members<Atom>, index: usize) -> Option<Term<'a>> {
    match members.payload(index) {
        Some(atom) => Some(atom.encode(env)),
        None => Some(members.candidates().name(index)?.encode(env)),
    }
}

fn obstacle(obstacle: Obstacle) -> Atom {
    match obstacle {
        Obstacle::Down => atoms::down(),
        Obstacle::Draining => atoms::draining(),
        Obstacle::CircuitOpen => atoms::circuit_open(),
    }
}

/// A plan that knows its nodes, or a route of its own.
pub enum Routed<'a> {
    Plan(&'a PlanResource),
    Route(&'a RouteResource),
}

impl<'a> rustler::Decoder<'a> for Routed<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode() {
            Ok(plan) => Ok(Routed::Plan(plan)),
            Err(_) => term.decode().map(Routed::Route),
        }
    }
}

impl<'a> Routed<'a> {
    pub fn route(&self) -> NifResult<&'a Route> {
        match self {
            Routed::Plan(plan) => plan.route().ok_or(Error::BadArg),
            Routed::Route(route) => Ok(&route.0),
        }
    }
}
