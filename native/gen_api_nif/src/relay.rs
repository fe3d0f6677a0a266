//! NIFs of `PhoenixGenApi.Relay`.
//!
//! Every operation on a group is constant in its size and runs on a normal scheduler; what walks
//! all members or groups runs on a dirty one.

use crate::decode::{List, Name};
use crate::relay_monitor::{monitor_device, monitored};
use crate::relay_terms::{
    answer, bounds, created, device, done, BoundsTerm, CreatedTerm, Joining, Kind, ModerationAtom,
    StatusAtom,
};
use gen_api_core::clock::Nanos;
use gen_api_core::relay::Relay;
use rustler::types::atom;
use rustler::{Atom, Env, LocalPid, ResourceArc, Term};

/// All groups of this gateway.
pub struct RelayResource(pub Relay<LocalPid>);

// A panic leaves locks open and counts that are each consistent.
impl std::panic::RefUnwindSafe for RelayResource {}

/// An index without groups.
#[rustler::nif]
fn relay_new(limits: BoundsTerm) -> ResourceArc<RelayResource> {
    ResourceArc::new(RelayResource(Relay::new(bounds(limits))))
}

/// Changes the bounds, and the messages per second of a group and of a member.
#[rustler::nif]
fn relay_configure(
    relay: &RelayResource,
    limits: BoundsTerm,
    group_rate: Option<u32>,
    member_rate: Option<u32>,
) -> Atom {
    relay.0.set_bounds(bounds(limits));
    relay.0.set_message_rate(group_rate, member_rate);
    atom::ok()
}

/// Creates a group: `:ok` or why not. Normal scheduler.
#[rustler::nif]
fn relay_create<'a>(
    env: Env<'a>,
    relay: ResourceArc<RelayResource>,
    id: Name<'_>,
    kind: Kind,
    user: Name<'_>,
    joining: Joining<'a>,
    at: CreatedTerm,
) -> Term<'a> {
    let outcome = relay
        .0
        .create(&id, kind.0, &user, device(&joining), created(at));
    monitored(env, &relay, joining.0, outcome)
}

/// Creates a group without members unless there is one of that type, for all gateways if it is decided:
/// `:ok` or why not. Of admins there are some at most. Normal scheduler.
#[rustler::nif]
fn relay_ensure<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    kind: Kind,
    admins: List<Name<'_>>,
    at: CreatedTerm,
    decided: bool,
) -> Term<'a> {
    let admins: Vec<&str> = admins.0.iter().map(|user| user.as_str()).collect();
    let outcome = relay.0.ensure(&id, kind.0, &admins, created(at), decided);
    done(env, outcome)
}

/// Deletes a group: how many members were in it, or why not. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_delete<'a>(env: Env<'a>, relay: &RelayResource, id: Name<'_>) -> Term<'a> {
    answer(env, relay.0.delete(&id))
}

/// A device joins: `{:ok, status}` or why not. Normal scheduler.
#[rustler::nif]
fn relay_join<'a>(
    env: Env<'a>,
    relay: ResourceArc<RelayResource>,
    id: Name<'_>,
    user: Name<'_>,
    joining: Joining<'a>,
    now_ms: u64,
) -> Term<'a> {
    let outcome = relay.0.join(&id, &user, device(&joining), now_ms);
    if outcome.is_ok_and(|joined| joined.unmonitored) {
        monitor_device(env, &relay, joining.0);
    }
    let status = outcome.map(|joined| (atom::ok(), StatusAtom(joined.status)));
    answer(env, status)
}

/// A user leaves with all devices. Normal scheduler.
#[rustler::nif]
fn relay_leave<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    user: Name<'_>,
    now_ms: u64,
) -> Term<'a> {
    done(env, relay.0.leave(&id, &user, now_ms))
}

/// A user leaves with one device: whether that was the last one, or why not. Normal scheduler.
#[rustler::nif]
fn relay_leave_device<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    user: Name<'_>,
    pid: LocalPid,
    now_ms: u64,
) -> Term<'a> {
    answer(env, relay.0.leave_device(&id, &user, pid, now_ms))
}

/// A member does something to another one. Normal scheduler.
#[rustler::nif]
fn relay_moderate<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    moderation: ModerationAtom,
    actor: Name<'_>,
    target: Name<'_>,
    now_ms: u64,
) -> Term<'a> {
    let outcome = relay.0.moderate(&id, moderation.0, &actor, &target, now_ms);
    done(env, outcome)
}

/// Reclaims memory of the limits on messages: whether there is more. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_sweep(relay: &RelayResource, now: i64, budget: usize) -> bool {
    relay.0.sweep(Nanos::from_signed(now), budget).more
}
