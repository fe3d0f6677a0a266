//! NIFs of `PhoenixGenApi.Circuits`: the circuit breakers between functions and nodes.
//!
//! Calls check and change them on their way through `node_selector` and `executor`; here they are set up, swept
//! and listed.

use crate::atoms;
use crate::node_selector::{now, SelectorResource};
use gen_api_core::breaker::{Settings, State};
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{Forgotten, History, Node};
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, Term};

/// `{threshold, cooldown_ms, failure_rate}`.
type Policy = (u32, u64, f64);

/// `{service, request_type, version, node}`.
type Name = (String, String, String, String);

fn name(history: &History, node: &Node) -> Name {
    let [service, request_type, version] = history.name().map(str::to_owned);
    (service, request_type, version, node.name().to_owned())
}

fn names(forgotten: Vec<Forgotten>) -> Vec<Name> {
    let names = forgotten.iter();
    names.map(|(history, node)| name(history, node)).collect()
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
    let histories = selector.0.histories();
    histories.set_ipv6_prefix(ipv6_prefix.min(128) as u8);
    names(histories.configure(settings, now()))
}

/// Forgets what no longer matters; returns the circuits that were open and are dropped. Dirty CPU scheduler:
/// walks all functions.
#[rustler::nif(schedule = "DirtyCpu")]
fn circuits_sweep(selector: &SelectorResource) -> Vec<Name> {
    names(selector.0.histories().sweep(now()))
}

/// The node was reached again: where its circuit is open, the next call is the probe. Dirty CPU scheduler: walks
/// all functions.
#[rustler::nif(schedule = "DirtyCpu")]
fn circuits_cut_short(selector: &SelectorResource, node: &str) -> Atom {
    if let Some(node) = selector.0.registry().find(node) {
        selector.0.histories().cut_short(&node, now());
    }
    atom::ok()
}

/// `[{{service, request_type, version, node}, state, number}]` of every circuit but those closed without a failure:
/// `:closed` with the failures that count, `:open` with the ms until a probe, `:half_open` with 0. Dirty CPU scheduler: walks all functions.
#[rustler::nif(schedule = "DirtyCpu")]
fn circuits_list<'a>(env: Env<'a>, selector: &SelectorResource) -> Vec<Term<'a>> {
    let now = now();
    let histories = selector.0.histories().all();
    let circuits = histories.iter().flat_map(|history| {
        let circuits = history.circuits().all().into_iter();
        circuits.map(move |circuit| (history, circuit))
    });
    circuits
        .filter_map(|(history, circuit)| {
            let (state, number): (Atom, u64) = match circuit.state(now) {
                State::Closed => match circuit.failures(now) {
                    0 => return None,
                    failures => (atoms::closed(), failures.into()),
                },
                State::Open { retry_in } => (atoms::open(), retry_in.0.div_ceil(1_000_000)),
                State::HalfOpen => (atoms::half_open(), 0),
            };
            Some((name(history, circuit.node()), state, number).encode(env))
        })
        .collect()
}

/// `{functions, bytes}` of what is remembered of calls. Dirty CPU scheduler: walks all functions.
#[rustler::nif(schedule = "DirtyCpu")]
fn circuits_size(selector: &SelectorResource) -> (usize, usize) {
    let histories = selector.0.histories();
    (histories.len(), histories.bytes())
}
