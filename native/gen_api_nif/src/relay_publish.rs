//! Messages to a group: to whom they go, and sending them.
//!
//! They are sent in slices, and never under a lock.

use crate::decode::List;
use crate::relay::RelayResource;
use crate::relay_slow::Slow;
use crate::relay_terms::refused;
use arc_swap::ArcSwapOption;
use gen_api_core::clock::Nanos;
use gen_api_core::relay::{FanOut, Refusal};
use rustler::types::tuple::make_tuple;
use rustler::{Encoder, Env, LocalPid, Resource, ResourceArc, Term};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Where the messages of one publish still have to go. Nowhere in the end: who has sent may not
/// collect garbage for long, and would keep a list of its own of a group that changes.
pub struct FanResource {
    to: ArcSwapOption<FanOut<LocalPid>>,
    next: AtomicUsize,
}

#[rustler::resource_impl]
impl Resource for FanResource {}

impl std::panic::RefUnwindSafe for FanResource {}

/// A member sends: `{audience, fan, lanes, remote}`, lanes being `[{number, key}]`, or why not.
/// Normal scheduler.
#[rustler::nif]
fn relay_publish<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: &str,
    user: Option<&str>,
    now: i64,
) -> Term<'a> {
    let now = Nanos(now.cast_unsigned() ^ (1 << 63));
    fan_term(env, relay.0.publish(id, user, now))
}

/// The same for a message that needs no permission and is not counted. Normal scheduler.
#[rustler::nif]
fn relay_fan_out<'a>(env: Env<'a>, relay: &RelayResource, id: &str) -> Term<'a> {
    fan_term(env, relay.0.fan_out(id))
}

fn fan_term(env: Env<'_>, outcome: Result<FanOut<LocalPid>, Refusal>) -> Term<'_> {
    match outcome {
        Err(refusal) => refused(env, refusal),
        Ok(to) => {
            let lanes: Vec<Term> = to.lanes.iter().map(|lane| lane_term(env, lane)).collect();
            let (audience, remote) = (to.audience, to.remote);
            let fan = ResourceArc::new(FanResource {
                to: ArcSwapOption::from_pointee(to),
                next: AtomicUsize::new(0),
            });
            make_tuple(
                env,
                &[
                    audience.encode(env),
                    fan.encode(env),
                    lanes.encode(env),
                    remote.encode(env),
                ],
            )
        }
    }
}

fn lane_term<'a>(env: Env<'a>, lane: &(u32, std::sync::Arc<[u8]>)) -> Term<'a> {
    let mut key = rustler::NewBinary::new(env, lane.1.len());
    key.copy_from_slice(&lane.1);
    (lane.0, Term::from(key)).encode(env)
}

/// How long one slice may take, and after how many messages the clock is asked.
const SLICE: Duration = Duration::from_micros(400);
const BETWEEN_LOOKS: usize = 64;

/// Sends the message of each lane to its devices for some hundred microseconds: `{more?, dropped,
/// sample}`. The lanes are in order, as in a fan. `dropped` did not get it, because they are slow;
/// `sample` are some who did. Normal scheduler.
#[rustler::nif]
fn relay_send<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    fan: &FanResource,
    messages: List<(u32, Term<'a>)>,
) -> (bool, usize, Vec<LocalPid>) {
    let Some(to) = fan.to.load_full() else {
        return (false, 0, Vec::new());
    };
    let recipients = &to.recipients;
    let first = fan.next.load(Ordering::Relaxed);
    let slow = relay.1.pids.load();
    let (mut next, mut dropped, mut sample) = (first, 0, Vec::new());
    let started = Instant::now();
    let now = relay.1.nanos(started);
    let mut looked_at = relay.1.first_look(now).map_or(usize::MAX, |at| first + at);
    while next < recipients.len() {
        for recipient in recipients.slice(next, BETWEEN_LOOKS) {
            if next == looked_at {
                sample.push(recipient.to);
                looked_at = looked_at.saturating_add(Slow::SAMPLED);
            }
            next += 1;
            if !slow.is_empty() && slow.contains(&recipient.to) {
                dropped += 1;
                continue;
            }
            // A group that is joined through topics of each user's own has as many lanes.
            let of_lane = messages
                .0
                .binary_search_by_key(&recipient.lane, |(lane, _)| *lane);
            if let Some((_, message)) = of_lane.ok().and_then(|at| messages.0.get(at)) {
                // One that has ended is being taken out already.
                let _ = env.send(&recipient.to, *message);
            }
        }
        if started.elapsed() > SLICE {
            rustler::schedule::consume_timeslice(env, 50);
            break;
        }
    }
    fan.next.store(next, Ordering::Relaxed);
    let more = next < recipients.len();
    if !more {
        fan.to.store(None);
    }
    if !sample.is_empty() {
        relay.1.looked(now, sample.len());
    }
    (more, dropped, sample)
}
