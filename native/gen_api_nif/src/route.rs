//! Routes: the nodes of one function, how one of them is chosen, and by what value.

use crate::atoms;
use crate::decode::Map;
use crate::mode::{KeySource, ModeSpec};
use crate::node_selector::{now, SelectorResource};
use crate::plan::PlanResource;
use crate::value::Arg;
use gen_api_core::breaker::Caller;
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{
    CallStats, CallerKind, Candidates, CircuitView, Entry, Flight, Mode, Node, Obstacle,
    Unavailable, Weights,
};
use gen_api_core::value::{Value, View};
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, Error, NewBinary, NifResult, Resource, ResourceArc, Term};
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes to route by that a normal scheduler hashes, at 1 ns each.
const LONGEST_KEY: usize = 16_384;

/// The nodes of one function and how one of them is chosen.
pub struct Route {
    // Held here and not passed to each choice: to decode a handle takes some 15 ns.
    selector: ResourceArc<SelectorResource>,
    candidates: Candidates,
    stats: Arc<CallStats>,
    atoms: Vec<Atom>,
    mode: Mode,
    key_source: Option<KeySource>,
    /// Whether its calls count as load. The gateway's own are not: all of them would share one counter.
    counted: bool,
}

/// A route of its own, for node lists that are worked out per request.
pub struct RouteResource(pub Route);

#[rustler::resource_impl]
impl Resource for RouteResource {}

impl std::panic::RefUnwindSafe for RouteResource {}

impl Route {
    pub fn new(
        selector: ResourceArc<SelectorResource>,
        function: [&str; 3],
        names: &[String],
        mode: ModeSpec,
    ) -> Self {
        let candidates = Candidates::new(selector.0.registry(), names.iter().map(String::as_str));
        let stats = selector.0.call_stats().of_function(function);
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
            ModeSpec::Weighted(weights) => {
                let weights = Weights::new(&candidates, |name| weights.get(name).copied());
                (Mode::Weighted(weights), None)
            }
        };
        Route {
            selector,
            candidates,
            stats,
            atoms: Vec::new(),
            mode,
            key_source,
            counted: true,
        }
    }

    /// The same for node names that are atoms, which a pick then returns. A repeated name
    /// counts once.
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
        Ok(Route {
            atoms: nodes,
            ..Route::new(selector, function, &names, mode)
        })
    }

    /// The calls are the gateway's own, and it is always there.
    pub fn uncounted(self) -> Self {
        Route {
            counted: false,
            ..self
        }
    }

    pub fn node(&self, index: usize) -> Option<&Arc<Node>> {
        self.candidates.get(index)
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

    /// Asks to call `node`.
    pub fn enter(&self, node: &Arc<Node>) -> Entry {
        let circuits = self.stats.circuits();
        circuits.enter_among(&self.candidates, node, now)
    }

    pub fn caller(&self, kind: CallerKind, name: &[u8]) -> Caller {
        self.selector.0.call_stats().caller(kind, name)
    }

    fn view(&self) -> CircuitView<fn() -> Nanos> {
        let view = self.stats.circuits().view(now as fn() -> Nanos);
        view.among(&self.candidates)
    }

    pub fn bytes(&self) -> usize {
        self.candidates.bytes() + self.atoms.len() * std::mem::size_of::<Atom>()
    }

    pub fn pick<'a>(&self, env: Env<'a>, key: Option<&[u8]>) -> Term<'a> {
        let selector = &self.selector.0;
        let view = self.view();
        let usable = |index| view.allows(self.candidates.get(index));
        let picked = selector.pick(&self.candidates, &self.mode, key, self.now(), usable);
        match picked.and_then(|index| Some((*self.atoms.get(index)?, index))) {
            Some(choice) => choice.encode(env),
            None => atoms::none().encode(env),
        }
    }

    pub fn order<'a>(&self, env: Env<'a>, key: Option<&[u8]>) -> Term<'a> {
        let selector = &self.selector.0;
        let view = self.view();
        let usable = |index| view.allows(self.candidates.get(index));
        let order = selector.order(&self.candidates, &self.mode, key, self.now(), usable);
        order.as_slice().encode(env)
    }

    /// Why there is no usable node.
    pub fn unavailable<'a>(&self, env: Env<'a>) -> Term<'a> {
        let selector = &self.selector.0;
        let view = self.view();
        let usable = |index| view.allows(self.candidates.get(index));
        match selector.unavailable(&self.candidates, &self.mode, usable) {
            Unavailable::NoNodes => atoms::no_nodes().encode(env),
            Unavailable::AllUnavailable(obstacles) => {
                let obstacles: Vec<(usize, Atom)> = obstacles
                    .into_iter()
                    .map(|(index, why)| (index, obstacle(why)))
                    .collect();
                obstacles.encode(env)
            }
        }
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
        let value = match &self.key_source {
            None => return then(None),
            Some(KeySource::RequestId) => request.0.map_get(atoms::request_id()).ok(),
            Some(KeySource::Named { name, field }) => {
                argument(env, request, name).or_else(|| request.0.map_get((*field)?).ok())
            }
        };
        let Some(value) = value else {
            return atoms::key_not_found().encode(env);
        };
        match Arg(value).view() {
            View::Nil | View::Str(&[]) => atoms::key_not_found().encode(env),
            View::Str(bytes) if bytes.len() > LONGEST_KEY => (atoms::convert(), value).encode(env),
            View::Str(bytes) => then(Some(bytes)),
            View::Int(n) => then(Some(n.to_string().as_bytes())),
            View::Bool(true) => then(Some(b"true")),
            View::Bool(false) => then(Some(b"false")),
            View::Atom => match value.atom_to_string() {
                Ok(name) => then(Some(name.as_bytes())),
                Err(_) => atoms::invalid_key().encode(env),
            },
            // Their text is Elixir's to make.
            View::BigInt | View::Float(_) => (atoms::convert(), value).encode(env),
            View::List | View::Map | View::Other => atoms::invalid_key().encode(env),
        }
    }
}

fn obstacle(obstacle: Obstacle) -> Atom {
    match obstacle {
        Obstacle::Down => atoms::down(),
        Obstacle::Draining => atoms::draining(),
        Obstacle::CircuitOpen => atoms::circuit_open(),
    }
}

fn argument<'a>(env: Env<'a>, request: Map<'a>, name: &str) -> Option<Term<'a>> {
    let arguments = request.0.map_get(atoms::args()).ok()?;
    let key: Term = NewBinary::from_slice(env, name.as_bytes()).into();
    let value = arguments.map_get(key).ok()?;
    (atom::nil() != value).then_some(value)
}

/// A plan with a fixed list of nodes, or a route of its own.
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
