//! NIFs of `PhoenixGenApi.NodeSelector`.
//!
//! A choice is linear in the number of the function's nodes, some 10 ns each, and runs on a
//! normal scheduler. Routes and orders of long lists have dirty variants.

use crate::atoms;
use crate::plan::PlanResource;
use crate::value::Arg;
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{
    Candidates, Mode, Node, NodeStatus, Obstacle, Selector, StickyLimits, Unavailable, Weights,
};
use gen_api_core::value::{Value, View};
use rustler::types::atom;
use rustler::{
    Atom, Binary, Encoder, Env, Error, NewBinary, NifResult, NifUnitEnum, Resource, ResourceArc,
    Term,
};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// All state of node selection on this gateway.
pub struct SelectorResource(pub Selector);

#[rustler::resource_impl]
impl Resource for SelectorResource {}

// A panic leaves counters and tables that are each consistent.
impl std::panic::RefUnwindSafe for SelectorResource {}

/// The nodes of one function and how one of them is chosen.
pub struct Route {
    candidates: Candidates,
    atoms: Vec<Atom>,
    mode: Mode,
    routing: Routing,
}

/// A route of its own, for node lists that are worked out per request.
pub struct RouteResource(Route);

#[rustler::resource_impl]
impl Resource for RouteResource {}

impl std::panic::RefUnwindSafe for RouteResource {}

/// Where the value comes from that the hash and sticky modes route by.
enum Routing {
    None,
    RequestId,
    Key { name: Box<str>, field: Option<Atom> },
}

impl Route {
    /// `mode` is an atom or `{mode, key | weights}`; a custom strategy is `:custom` and is
    /// never asked here.
    pub fn new(
        selector: &Selector,
        function: &[u8],
        names: &[String],
        mode: Term<'_>,
    ) -> NifResult<Self> {
        let candidates = Candidates::new(selector.registry(), names.iter().map(String::as_str));
        let (kind, parameter) = match mode.decode::<(Atom, Term)>() {
            Ok((kind, parameter)) => (kind, Some(parameter)),
            Err(_) => (mode.decode()?, None),
        };
        let mut routing = Routing::None;
        let mode = if kind == atoms::hash() {
            routing = match parameter {
                Some(key) => keyed(key)?,
                None => Routing::RequestId,
            };
            Mode::Rendezvous
        } else if kind == atoms::sticky() {
            routing = keyed(parameter.ok_or(Error::BadArg)?)?;
            Mode::Sticky {
                function: function.into(),
            }
        } else if kind == atoms::round_robin() {
            Mode::RoundRobin(selector.cursor(function))
        } else if kind == atoms::least_busy() {
            Mode::LeastBusy
        } else if kind == atoms::weighted() {
            let weights: HashMap<String, u32> = parameter.ok_or(Error::BadArg)?.decode()?;
            Mode::Weighted(Weights::new(&candidates, |name| weights.get(name).copied()))
        } else {
            Mode::Random
        };
        Ok(Route {
            candidates,
            atoms: Vec::new(),
            mode,
            routing,
        })
    }

    /// The same for node names that are atoms, which a pick then returns. A repeated name
    /// counts once.
    pub fn of_atoms(
        selector: &Selector,
        function: &[u8],
        mut nodes: Vec<Atom>,
        mode: Term<'_>,
    ) -> NifResult<Self> {
        let mut seen = HashSet::with_capacity(nodes.len());
        nodes.retain(|node| seen.insert(*node));
        let names = nodes
            .iter()
            .map(|node| node.to_term(mode.get_env()).atom_to_string())
            .collect::<NifResult<Vec<_>>>()?;
        Ok(Route {
            atoms: nodes,
            ..Route::new(selector, function, &names, mode)?
        })
    }

    pub fn node(&self, index: usize) -> Option<Arc<Node>> {
        self.candidates.get(index).cloned()
    }

    pub fn bytes(&self) -> usize {
        self.candidates.bytes() + self.atoms.len() * std::mem::size_of::<Atom>()
    }

    fn pick<'a>(&self, env: Env<'a>, selector: &Selector, key: Option<&[u8]>) -> Term<'a> {
        let picked = selector.pick(&self.candidates, &self.mode, key, now(), |_| true);
        match picked.and_then(|index| Some((*self.atoms.get(index)?, index))) {
            Some(choice) => choice.encode(env),
            None => atoms::none().encode(env),
        }
    }

    fn order<'a>(&self, env: Env<'a>, selector: &Selector, key: Option<&[u8]>) -> Term<'a> {
        let order = selector.order(&self.candidates, &self.mode, key, now(), |_| true);
        order.as_slice().encode(env)
    }

    /// Hands the bytes to route by to `then`.
    fn routed<'a>(
        &self,
        env: Env<'a>,
        request: Term<'a>,
        then: impl FnOnce(Option<&[u8]>) -> Term<'a>,
    ) -> Term<'a> {
        let value = match &self.routing {
            Routing::None => return then(None),
            Routing::RequestId => request.map_get(atoms::request_id()).ok(),
            Routing::Key { name, field } => {
                argument(env, request, name).or_else(|| request.map_get((*field)?).ok())
            }
        };
        let Some(value) = value else {
            return atoms::key_not_found().encode(env);
        };
        match Arg(value).view() {
            View::Nil | View::Str(&[]) => atoms::key_not_found().encode(env),
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

fn keyed(key: Term<'_>) -> NifResult<Routing> {
    let name: String = key.decode()?;
    let fields = [
        atoms::user_id(),
        atoms::device_id(),
        atoms::request_id(),
        atoms::request_type(),
        atoms::service(),
        atoms::version(),
        atoms::ip_address(),
    ];
    let env = key.get_env();
    let field = fields.into_iter().find(|field| {
        field
            .to_term(env)
            .atom_to_string()
            .is_ok_and(|text| text == name)
    });
    Ok(Routing::Key {
        name: name.into_boxed_str(),
        field,
    })
}

fn argument<'a>(env: Env<'a>, request: Term<'a>, name: &str) -> Option<Term<'a>> {
    let arguments = request.map_get(atoms::args()).ok()?;
    let key: Term = NewBinary::from_slice(env, name.as_bytes()).into();
    let value = arguments.map_get(key).ok()?;
    (atom::nil() != value).then_some(value)
}

/// Monotonic time since the library was first asked for it.
fn now() -> Nanos {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    Nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
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

/// An instance. The sticky table forgets a value `ttl_ms` after its last use.
#[rustler::nif]
fn node_selector_new(ttl_ms: u64, max_entries: usize) -> ResourceArc<SelectorResource> {
    let limits = StickyLimits {
        ttl: Nanos::from_millis(ttl_ms),
        max_entries,
    };
    ResourceArc::new(SelectorResource(Selector::new(limits)))
}

/// Changes the limits of the sticky table.
#[rustler::nif]
fn node_selector_limit(selector: &SelectorResource, ttl_ms: u64, max_entries: usize) -> Atom {
    selector.0.sticky().set_limits(StickyLimits {
        ttl: Nanos::from_millis(ttl_ms),
        max_entries,
    });
    atom::ok()
}

/// A route for a list of distinct node names that no plan holds. Normal scheduler, some 150 ns
/// for each name: for at most 1,000.
#[rustler::nif]
fn node_selector_route(
    selector: &SelectorResource,
    function: Binary<'_>,
    nodes: Vec<String>,
    mode: Term<'_>,
) -> NifResult<ResourceArc<RouteResource>> {
    let route = Route::new(&selector.0, &function, &nodes, mode)?;
    Ok(ResourceArc::new(RouteResource(route)))
}

/// The same for any number of names. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_route_dirty(
    selector: &SelectorResource,
    function: Binary<'_>,
    nodes: Vec<String>,
    mode: Term<'_>,
) -> NifResult<ResourceArc<RouteResource>> {
    let route = Route::new(&selector.0, &function, &nodes, mode)?;
    Ok(ResourceArc::new(RouteResource(route)))
}

/// The best usable node and its place among the candidates: `{node, index}`, `:none`,
/// `:key_not_found`, `:invalid_key`, or `{:convert, value}` for a routing value whose text
/// Elixir must make.
#[rustler::nif]
fn node_selector_pick<'a>(
    env: Env<'a>,
    selector: &SelectorResource,
    routed: Routed<'a>,
    request: Term<'a>,
) -> NifResult<Term<'a>> {
    let route = routed.route()?;
    Ok(route.routed(env, request, |key| route.pick(env, &selector.0, key)))
}

/// The same with the bytes to route by.
#[rustler::nif]
fn node_selector_pick_key<'a>(
    env: Env<'a>,
    selector: &SelectorResource,
    routed: Routed<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    Ok(routed.route()?.pick(env, &selector.0, Some(&key)))
}

/// The places of all usable candidates, best first; else as `node_selector_pick`. Normal
/// scheduler, for at most 1,000 candidates.
#[rustler::nif]
fn node_selector_order<'a>(
    env: Env<'a>,
    selector: &SelectorResource,
    routed: Routed<'a>,
    request: Term<'a>,
) -> NifResult<Term<'a>> {
    let route = routed.route()?;
    Ok(route.routed(env, request, |key| route.order(env, &selector.0, key)))
}

/// The same with the bytes to route by.
#[rustler::nif]
fn node_selector_order_key<'a>(
    env: Env<'a>,
    selector: &SelectorResource,
    routed: Routed<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    Ok(routed.route()?.order(env, &selector.0, Some(&key)))
}

/// `node_selector_order` for any number of candidates. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_order_dirty<'a>(
    env: Env<'a>,
    selector: &SelectorResource,
    routed: Routed<'a>,
    request: Term<'a>,
) -> NifResult<Term<'a>> {
    let route = routed.route()?;
    Ok(route.routed(env, request, |key| route.order(env, &selector.0, key)))
}

/// `node_selector_order_key` for any number of candidates. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_order_key_dirty<'a>(
    env: Env<'a>,
    selector: &SelectorResource,
    routed: Routed<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    Ok(routed.route()?.order(env, &selector.0, Some(&key)))
}

/// Why there is no usable node: `:no_nodes` or `[{index, obstacle}]`. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_unavailable<'a>(
    env: Env<'a>,
    selector: &SelectorResource,
    routed: Routed<'a>,
) -> NifResult<Term<'a>> {
    let route = routed.route()?;
    let why = selector
        .0
        .unavailable(&route.candidates, &route.mode, |_| true);
    Ok(match why {
        Unavailable::NoNodes => atoms::no_nodes().encode(env),
        Unavailable::AllUnavailable(obstacles) => obstacles
            .into_iter()
            .map(|(index, obstacle)| {
                let obstacle = match obstacle {
                    Obstacle::Down => atoms::down(),
                    Obstacle::Draining => atoms::draining(),
                    Obstacle::CircuitOpen => atoms::circuit_open(),
                };
                (index, obstacle)
            })
            .collect::<Vec<_>>()
            .encode(env),
    })
}

#[derive(Clone, Copy, NifUnitEnum)]
enum Change {
    Up,
    Down,
    Drain,
    Undrain,
}

/// Notes what has become of a node; whether that changed anything. An event about a node
/// that no function names is not remembered, whoever connects.
#[rustler::nif]
fn node_selector_mark(selector: &SelectorResource, node: &str, change: Change) -> bool {
    let registry = selector.0.registry();
    let known = match change {
        Change::Drain => Some(registry.node(node)),
        _ => registry.find(node),
    };
    known.is_some_and(|node| match change {
        Change::Up => node.mark_up(),
        Change::Down => node.mark_down(),
        Change::Drain => node.drain(),
        Change::Undrain => node.undrain(),
    })
}

/// `{name, status, calls_in_flight}` of every known node. Dirty CPU scheduler, linear.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_statuses(selector: &SelectorResource) -> Vec<(String, Atom, u32)> {
    selector
        .0
        .registry()
        .statuses()
        .into_iter()
        .map(|(node, state)| (node.name().to_owned(), status(state), node.in_flight()))
        .collect()
}

/// The status of one node.
#[rustler::nif]
fn node_selector_status(selector: &SelectorResource, node: &str) -> Atom {
    let known = selector.0.registry().find(node);
    known.map_or_else(atoms::up, |node| status(node.status()))
}

fn status(status: NodeStatus) -> Atom {
    match status {
        NodeStatus::Up => atoms::up(),
        NodeStatus::Down => atoms::down(),
        NodeStatus::Draining => atoms::draining(),
    }
}

/// Every round robin starts over.
#[rustler::nif]
fn node_selector_reset_round_robin(selector: &SelectorResource) -> Atom {
    selector.0.reset_round_robin();
    atom::ok()
}

/// Drops at most `budget` expired sticky entries and forgets unused nodes; how many entries
/// went. Dirty CPU scheduler: forgetting nodes is linear in their number.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_sweep(selector: &SelectorResource, budget: usize) -> usize {
    let removed = selector.0.sticky().cleanup(now(), budget);
    selector.0.registry().prune(now());
    removed
}

/// `{sticky_entries, bytes}`.
#[rustler::nif]
fn node_selector_size(selector: &SelectorResource) -> (usize, usize) {
    (selector.0.sticky().len(), selector.0.bytes())
}
