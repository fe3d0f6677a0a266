//! NIFs of `PhoenixGenApi.Circuits`: the circuit breakers between functions and nodes.
//!
//! Calls check and change them on their way through `node_selector` and `executor`; here they are set up, swept
//! and listed.

use crate::atoms;
use crate::node_selector::{now, SelectorResource};
use gen_api_core::breaker::{Settings, State};
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{CallStats, DroppedCircuit, Node};
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, Term};

/// `{threshold, cooldown_ms, failure_rate}`.
type Policy = (u32, u64, f64);

/// `{service, request_type, version, node}`.
type Name = (String, String, String, String);

fn name(stats: &CallStats, node: &Node) -> Name {
    let [service, request_type, version] = stats.name().map(str::to_owned);
    (service, request_type, version, node.name().to_owned())
}

fn names(forgotten: Vec<DroppedCircuit>) -> Vec<Name> {
    let names = forgotten.iter();
    names.map(|(stats, node)| name(stats, node)).collect()
}

/// Sets how circuits work: `{threshold, cooldown_ms, failure_rate}`, or nil for not at all; and how many bits of
/// an IPv6 address count. Returns the circuits that were open and are dropped. Dirty CPU scheduler: walks all
/// functions.
#[rustler::nif(schedule = "DirtyCpu")]
fn circuits_configure(
    selector: &SelectorResource,
    policy: Option<Policy>,
    ipv6_prefix: u32,
) -> Vec<Name> {
    let settings = policy.map(|(threshold, cooldown_ms, failure_rate)| Settings {
        threshold,
        failure_rate,
        cooldown: Nanos::from_millis(cooldown_ms),
    });
    let call_stats = selector.0.call_stats();
    call_stats.set_ipv6_prefix(ipv6_prefix.min(128) as u8);
    names(call_stats.configure(settings, now()))
}

/// Forgets what no longer matters; returns the circuits that were open and are dropped. Dirty CPU scheduler:
/// walks all functions.
#[rustler::nif(schedule = "DirtyCpu")]
fn circuits_sweep(selector: &SelectorResource) -> Vec<Name> {
    names(selector.0.call_stats().sweep(now()))
}

/// The node was reached again: where its circuit is open, the next call is the probe. Dirty CPU scheduler: walks
/// all functions.
#[rustler::nif(schedule = "DirtyCpu")]
fn circuits_end_cooldown(selector: &SelectorResource, node: &str) -> Atom {
    if let Some(node) = selector.0.registry().find(node) {
        selector.0.call_stats().end_cooldown(&node, now());
    }
    atom::ok()
}

/// `[{{service, request_type, version, node}, state, number}]` of every circuit but those closed without a failure:
/// `:closed` with the failures that count, `:open` with the ms until a probe, `:half_open` with 0. Dirty CPU scheduler: walks all functions.
#[rustler::nif(schedule = "DirtyCpu")]
fn circuits_list<'a>(env: Env<'a>, selector: &SelectorResource) -> Vec<Term<'a>> {
    let now = now();
    let call_stats = selector.0.call_stats().all();
    let circuits = call_stats.iter().flat_map(|stats| {
        let circuits = stats.circuits().all().into_iter();
        circuits.map(move |circuit| (stats, circuit))
    });
    circuits
        .filter_map(|(stats, circuit)| {
            let (state, number): (Atom, u64) = match circuit.state(now) {
                State::Closed => match circuit.failures(now) {
                    0 => return None,
                    failures => (atoms::closed(), failures.into()),
                },
                State::Open { retry_in } => (atoms::open(), retry_in.0.div_ceil(1_000_000)),
                State::HalfOpen => (atoms::half_open(), 0),
            };
            Some((name(stats, circuit.node()), state, number).encode(env))
        })
        .collect()
}

/// `{functions, bytes}` of what is remembered of calls. Dirty CPU scheduler: walks all functions.
#[rustler::nif(schedule = "DirtyCpu")]
fn circuits_size(selector: &SelectorResource) -> (usize, usize) {
    let call_stats = selector.0.call_stats();
    (call_stats.len(), call_stats.bytes())
}
