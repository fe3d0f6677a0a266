//! Messages to a group: to whom they go, and sending them.

use crate::client_connection::{open, ConnectionsResource};
use crate::decode::{List, Name};
use crate::node_selector::now;
use crate::relay::RelayResource;
use crate::relay_terms::refused;
use gen_api_core::clock::Nanos;
use gen_api_core::relay::{Delivery, FanOut, Refusal};
use rustler::types::atom;
use rustler::types::tuple::make_tuple;
use rustler::{Atom, Encoder, Env, LocalPid, NewBinary, Resource, ResourceArc, Term};
use std::sync::Arc;

/// Where the messages of one publish still have to go.
pub struct DeliveryResource(Delivery<LocalPid>);

#[rustler::resource_impl]
impl Resource for DeliveryResource {}

impl std::panic::RefUnwindSafe for DeliveryResource {}

/// A member sends: `{audience, delivery, lanes, remote}`, lanes being `[{number, key}]`, or why not.
/// Normal scheduler.
#[rustler::nif]
fn relay_publish<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    user: Option<Name<'_>>,
    now: i64,
) -> Term<'a> {
    delivery_term(
        env,
        relay
            .0
            .publish(&id, user.as_deref(), Nanos::from_signed(now)),
    )
}

/// The same for a message that needs no permission and is not counted. Normal scheduler.
#[rustler::nif]
fn relay_fan_out<'a>(env: Env<'a>, relay: &RelayResource, id: Name<'_>) -> Term<'a> {
    delivery_term(env, relay.0.fan_out(&id))
}

fn delivery_term(env: Env<'_>, outcome: Result<FanOut<LocalPid>, Refusal>) -> Term<'_> {
    match outcome {
        Err(refusal) => refused(env, refusal),
        Ok(to) => {
            let lanes: Vec<Term> = to.lanes.iter().map(|lane| lane_term(env, lane)).collect();
            let (audience, remote) = (to.audience, to.remote);
            let delivery = ResourceArc::new(DeliveryResource(Delivery::new(to)));
            make_tuple(
                env,
                &[
                    audience.encode(env),
                    delivery.encode(env),
                    lanes.encode(env),
                    remote.encode(env),
                ],
            )
        }
    }
}

fn lane_term<'a>(env: Env<'a>, (number, key): &(u32, Arc<[u8]>)) -> Term<'a> {
    let key: Term = NewBinary::from_slice(env, key).into();
    (*number, key).encode(env)
}

/// What one slice of a delivery did: `{more?, dropped, sample, full}`.
type SliceTerm = (bool, usize, Vec<LocalPid>, Vec<(LocalPid, u32)>);

/// Sends the message of each lane to its devices for some hundred microseconds. The lanes are
/// `{number, message, bytes}` in order, as in a delivery; bytes other than 0 are counted for the
/// connection of the device. `dropped` did not get it, because they are slow; `sample` are some who
/// did; `full`, with the number of the lane, are those for which more than `limit` bytes may wait.
/// Normal scheduler.
#[rustler::nif]
fn relay_send<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    connections: ResourceArc<ConnectionsResource>,
    delivery: &DeliveryResource,
    messages: List<(u32, Term<'a>, u64)>,
    limit: u64,
) -> SliceTerm {
    let mut full = Vec::new();
    let slice = relay.0.deliver(&delivery.0, now, |to, lane| {
        // A group that is joined through topics of each user's own has as many lanes.
        let of_lane = messages.0.binary_search_by_key(&lane, |(lane, _, _)| *lane);
        if let Some((_, message, bytes)) = of_lane.ok().and_then(|at| messages.0.get(at)) {
            if *bytes > 0 && !open(env, &connections, to).sent_within(*bytes, limit) {
                full.push((to, lane));
                return;
            }
            // One that has ended is being taken out already.
            let _ = env.send(&to, *message);
        }
    });
    if slice.more {
        rustler::schedule::consume_timeslice(env, 50);
    }
    (slice.more, slice.dropped, slice.sample, full)
}

/// From now on nothing is sent to these. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_set_slow(relay: &RelayResource, pids: List<LocalPid>) -> Atom {
    relay.0.set_slow(pids.0.into_iter().collect());
    atom::ok()
}
