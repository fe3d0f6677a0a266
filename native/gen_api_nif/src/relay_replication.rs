//! NIFs of `PhoenixGenApi.Relay` for groups that several gateways hold.

use crate::decode::{List, Name, NodeBit};
use crate::relay::RelayResource;
use crate::relay_monitor::monitored;
use crate::relay_terms::{
    answer, device, done, origin, origin_term, page_or_refusal, record, record_or_refusal,
    record_term, Change, Joining, OriginTerm, RecordTerm,
};
use gen_api_core::relay::Record;
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, LocalPid, ResourceArc, Term};

/// Whether other gateways have to agree to changes.
#[rustler::nif]
fn relay_set_shared(relay: &RelayResource, shared: bool) -> Atom {
    relay.0.set_shared(shared);
    atom::ok()
}

/// Makes a change for all gateways, `{:create, group, type, user, {ms, by}}`, `{:join, group, user}`,
/// `{:leave, group, user}`, `{:depart, group, user, died?}` or `{:change, group, verb, actor, target}`:
/// `{status, origin, record}`, the status nil of somebody who is not in the group, or why not. Normal scheduler.
#[rustler::nif]
fn relay_decide<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    change: Change<'a>,
    now_ms: u64,
) -> Term<'a> {
    let decided = relay.0.decide(change.group, change.command, now_ms);
    record_or_refusal(env, decided)
}

/// Deletes a group for all gateways: how many members were in it, or why not. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_decide_delete<'a>(env: Env<'a>, relay: &RelayResource, id: Name<'_>) -> Term<'a> {
    answer(env, relay.0.decide_delete(&id))
}

/// A device of somebody who is in the group: `:ok` or why not. Normal scheduler.
#[rustler::nif]
fn relay_attach<'a>(
    env: Env<'a>,
    relay: ResourceArc<RelayResource>,
    id: Name<'_>,
    user: Name<'_>,
    joining: Joining<'a>,
) -> Term<'a> {
    let unmonitored = relay.0.attach(&id, &user, device(&joining));
    monitored(env, &relay, joining.0, unmonitored)
}

/// Takes a device out and nothing else: `:ok` or why not. Normal scheduler.
#[rustler::nif]
fn relay_detach<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    user: Name<'_>,
    pid: LocalPid,
) -> Term<'a> {
    done(env, relay.0.detach(&id, &user, pid))
}

/// Whether a user has devices here, or this one. Normal scheduler.
#[rustler::nif]
fn relay_has_local_device(
    relay: &RelayResource,
    id: Name<'_>,
    user: Name<'_>,
    pid: Option<LocalPid>,
) -> bool {
    relay.0.has_local_device(&id, &user, pid)
}

/// Copies a record; whether devices were taken out. Normal scheduler.
#[rustler::nif]
fn relay_put(
    relay: &RelayResource,
    id: Name<'_>,
    group: OriginTerm,
    member: RecordTerm<'_>,
    evict: bool,
) -> bool {
    relay.0.put(&id, origin(group), &record(member), evict)
}

/// Notes whether another gateway has devices of a user. Normal scheduler.
#[rustler::nif]
fn relay_set_remote(
    relay: &RelayResource,
    id: Name<'_>,
    user: Name<'_>,
    node: NodeBit,
    there: bool,
) -> Atom {
    relay.0.set_remote(&id, &user, node.0, there);
    atom::ok()
}

/// Members without a device anywhere, of these other gateways and this one: `[{user, gone?}]` with
/// whether theirs were on another one. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_offline_members<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    nodes: u64,
) -> Vec<Term<'a>> {
    let absent = relay.0.offline_members(&id, nodes);
    let absent = absent.iter();
    absent
        .map(|(user, gone)| (&**user, *gone).encode(env))
        .collect()
}

/// `{status, origin, record}` of a user, in the group or not, or why not. Normal scheduler.
#[rustler::nif]
fn relay_record<'a>(env: Env<'a>, relay: &RelayResource, id: Name<'_>, user: Name<'_>) -> Term<'a> {
    record_or_refusal(env, relay.0.record_of(&id, &user))
}

/// The names of all groups. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_ids<'a>(env: Env<'a>, relay: &RelayResource) -> Vec<Term<'a>> {
    relay.0.ids().iter().map(|id| (**id).encode(env)).collect()
}

/// `{origin, [{record, here?}], next}` or why not. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_records<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    start: usize,
    count: usize,
) -> Term<'a> {
    let page = relay.0.records(&id, start, count);
    page_or_refusal(env, page, origin_term, |env, (record, here)| {
        (record_term(env, record), *here).encode(env)
    })
}

/// Unites what another gateway knows of a group with what is known here: `{users, records}`, those who
/// were taken out here, and what that one has missed the end of. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_merge<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    group: OriginTerm,
    node: NodeBit,
    apart: bool,
    records: List<(RecordTerm<'_>, bool)>,
) -> Term<'a> {
    let records: Vec<(Record, bool)> = records
        .0
        .into_iter()
        .map(|(member, there)| (record(member), there))
        .collect();
    let merged = relay.0.merge(&id, origin(group), node.0, apart, &records);
    let out: Vec<&str> = merged.out.iter().map(|user| &**user).collect();
    let forgotten = merged.forgotten.iter();
    let forgotten: Vec<Term> = forgotten.map(|record| record_term(env, record)).collect();
    (out, forgotten).encode(env)
}
