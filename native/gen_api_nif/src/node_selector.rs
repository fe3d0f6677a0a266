//! NIFs of `PhoenixGenApi.NodeSelector`.
//!
//! A choice is linear in the number of the function's nodes, some nanoseconds each, and runs on
//! a normal scheduler. What makes, sorts or lists nodes runs on a dirty one.

use crate::decode::{atom_enum, List, Map, Name};
use crate::mode::ModeSpec;
use crate::route::{Route, RouteResource, Routed};
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{NodeEvent, NodeStatus, Selector, StickyLimits};
use rustler::types::atom;
use rustler::{Atom, Binary, Env, NifResult, Resource, ResourceArc, Term};
use std::sync::OnceLock;
use std::time::Instant;

/// All state of node selection on this gateway.
pub struct SelectorResource(pub Selector);

#[rustler::resource_impl]
impl Resource for SelectorResource {}

// A panic leaves counters and tables that are each consistent.
impl std::panic::RefUnwindSafe for SelectorResource {}

/// Monotonic time since the library was first asked for it.
pub fn now() -> Nanos {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    Nanos(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
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

/// A route for a list of distinct node names that no plan holds; the function is its service, request type
/// and version. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_route<'a>(
    selector: ResourceArc<SelectorResource>,
    function: (Binary<'a>, Binary<'a>, Binary<'a>),
    nodes: List<String>,
    mode: ModeSpec,
) -> ResourceArc<RouteResource> {
    // Names made by hand need not be UTF-8.
    let [service, request_type, version] = [function.0, function.1, function.2]
        .map(|name| String::from_utf8_lossy(&name).into_owned());
    let function = [&*service, &*request_type, &*version];
    let route = Route::new(selector, function, &nodes.0, mode);
    ResourceArc::new(RouteResource(route))
}

/// The best usable node and its place among the candidates: `{node, place}`, `:none`,
/// `:key_not_found`, `:invalid_key`, or `{:convert, value}` for a routing value whose text
/// Elixir must make, or which is too long for a normal scheduler.
#[rustler::nif]
fn node_selector_pick<'a>(
    env: Env<'a>,
    routed: Routed<'a>,
    request: Map<'a>,
) -> NifResult<Term<'a>> {
    let route = routed.route()?;
    Ok(route.with_routing_key(env, request, |key| route.pick(env, key)))
}

/// The same with the bytes to route by. Dirty CPU scheduler: linear in their length.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_pick_key<'a>(
    env: Env<'a>,
    routed: Routed<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    Ok(routed.route()?.pick(env, Some(&key)))
}

/// All usable candidates as `{node, place}`, best first; else as `node_selector_pick`. The nodes of a route of its own
/// are their names. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_order<'a>(
    env: Env<'a>,
    routed: Routed<'a>,
    request: Map<'a>,
) -> NifResult<Term<'a>> {
    let route = routed.route()?;
    Ok(route.with_routing_key(env, request, |key| route.order(env, key)))
}

/// The same with the bytes to route by.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_order_key<'a>(
    env: Env<'a>,
    routed: Routed<'a>,
    key: Binary<'a>,
) -> NifResult<Term<'a>> {
    Ok(routed.route()?.order(env, Some(&key)))
}

/// Why there is no usable node: `:no_nodes` or `[{node, obstacle}]`. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_unavailable<'a>(env: Env<'a>, routed: Routed<'a>) -> NifResult<Term<'a>> {
    Ok(routed.route()?.unavailable(env))
}

atom_enum!(Event(NodeEvent) {
    up => NodeEvent::Up,
    down => NodeEvent::Down,
    drain => NodeEvent::Drain,
    undrain => NodeEvent::Undrain,
});

/// Notes what has become of a node; whether that changed anything.
#[rustler::nif]
fn node_selector_mark(selector: &SelectorResource, node: Name<'_>, event: Event) -> bool {
    selector.0.registry().note(&node, event.0)
}

atom_enum!(Status(NodeStatus) {
    up => NodeStatus::Up,
    down => NodeStatus::Down,
    draining => NodeStatus::Draining,
});

/// `{name, status, calls_in_flight}` of every known node. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn node_selector_statuses(selector: &SelectorResource) -> Vec<(String, Status, u32)> {
    selector
        .0
        .registry()
        .statuses()
        .into_iter()
        .map(|(node, status)| (node.name().to_owned(), Status(status), node.in_flight()))
        .collect()
}

/// The status of one node.
#[rustler::nif]
fn node_selector_status(selector: &SelectorResource, node: Name<'_>) -> Status {
    Status(selector.0.registry().status(&node))
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
    let removed = selector.0.sticky().sweep(now(), budget);
    selector.0.registry().prune(now());
    removed
}

/// `{sticky_entries, bytes}`.
#[rustler::nif]
fn node_selector_size(selector: &SelectorResource) -> (usize, usize) {
    (selector.0.sticky().len(), selector.0.bytes())
}
