//! NIFs of `PhoenixGenApi.Relay`.
//!
//! Every operation on a group is constant in its size and runs on a normal scheduler; what walks
//! all members or groups runs on a dirty one. Messages are sent in slices, and never under a lock.

use crate::relay_terms::{
    answer, device, done, refused, status_atom, BoundsTerm, Joining, Kind, Verb,
};
use crate::relay_watch::{watch, watched};
use ahash::AHashSet;
use arc_swap::ArcSwap;
use gen_api_core::clock::Nanos;
use gen_api_core::relay::{Created, FanOut, Refusal, Relay};
use rustler::types::atom;
use rustler::types::tuple::make_tuple;
use rustler::{Atom, Encoder, Env, LocalPid, Resource, ResourceArc, Term};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// All groups of this gateway, and the recipients that cannot keep up.
pub struct RelayResource(pub Relay<LocalPid>, Slow);

/// Whom messages are not sent to for the time being.
struct Slow {
    // A snapshot each: a fan-out looks once and waits for nobody.
    pids: ArcSwap<AHashSet<LocalPid>>,
    /// Slices so far of which some could be looked at.
    slices: AtomicUsize,
    since: Instant,
    /// When recipients may be looked at again, in nanoseconds from `since`.
    next_look: AtomicU64,
}

impl Slow {
    fn new() -> Self {
        Self {
            pids: ArcSwap::default(),
            slices: AtomicUsize::new(0),
            since: Instant::now(),
            next_look: AtomicU64::new(0),
        }
    }

    /// The first recipient to look at, for a slice that begins now, if it is time to.
    fn first_look(&self, now: u64) -> Option<usize> {
        if now < self.next_look.load(Ordering::Relaxed) {
            return None;
        }
        // Another place of each stretch every time, or some recipients would never be looked at.
        let slice = self.slices.fetch_add(1, Ordering::Relaxed);
        Some((slice.wrapping_mul(0x9E37_79B9) >> 8) % SAMPLED)
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.since).as_nanos()).unwrap_or(u64::MAX)
    }

    /// So many have been looked at. Two slices at once may both have looked.
    fn looked(&self, now: u64, looks: usize) {
        let pause = LOOK_EVERY_NS.saturating_mul(u64::try_from(looks).unwrap_or(u64::MAX));
        self.next_look
            .store(now.saturating_add(pause), Ordering::Relaxed);
    }
}

// A panic leaves locks open and counts that are each consistent.
impl std::panic::RefUnwindSafe for RelayResource {}

/// Where the messages of one publish still have to go.
pub struct FanResource {
    to: FanOut<LocalPid>,
    next: AtomicUsize,
}

#[rustler::resource_impl]
impl Resource for FanResource {}

impl std::panic::RefUnwindSafe for FanResource {}

/// An index without groups.
#[rustler::nif]
fn relay_new(bounds: BoundsTerm) -> ResourceArc<RelayResource> {
    ResourceArc::new(RelayResource(Relay::new(bounds.into()), Slow::new()))
}

/// Changes the bounds, and the messages per second of a group and of a member.
#[rustler::nif]
fn relay_configure(
    relay: &RelayResource,
    bounds: BoundsTerm,
    group_pace: Option<u32>,
    member_pace: Option<u32>,
) -> Atom {
    relay.0.set_bounds(bounds.into());
    relay.0.set_pace(group_pace, member_pace);
    atom::ok()
}

/// Creates a group: `:ok` or why not. Normal scheduler.
#[rustler::nif]
fn relay_create<'a>(
    env: Env<'a>,
    relay: ResourceArc<RelayResource>,
    id: &str,
    kind: Kind,
    user: &str,
    joining: Joining<'a>,
    created: (u64, u64),
) -> Term<'a> {
    let created = Created {
        ms: created.0,
        by: created.1,
    };
    let outcome = relay
        .0
        .create(id, kind.into(), user, device(&joining), created);
    watched(env, &relay, joining.0, outcome)
}

/// Deletes a group: how many members were in it, or why not. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_delete<'a>(env: Env<'a>, relay: &RelayResource, id: &str) -> Term<'a> {
    answer(env, relay.0.delete(id))
}

/// A device joins: `{:ok, status}` or why not. Normal scheduler.
#[rustler::nif]
fn relay_join<'a>(
    env: Env<'a>,
    relay: ResourceArc<RelayResource>,
    id: &str,
    user: &str,
    joining: Joining<'a>,
    now_ms: u64,
) -> Term<'a> {
    let outcome = relay.0.join(id, user, device(&joining), now_ms);
    if outcome.is_ok_and(|joined| joined.unwatched) {
        watch(env, &relay, joining.0);
    }
    let status = outcome.map(|joined| (atom::ok(), status_atom(joined.status)));
    answer(env, status)
}

/// A user leaves with all devices. Normal scheduler.
#[rustler::nif]
fn relay_leave<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: &str,
    user: &str,
    now_ms: u64,
) -> Term<'a> {
    done(env, relay.0.leave(id, user, now_ms))
}

/// A user leaves with one device: whether that was the last one, or why not. Normal scheduler.
#[rustler::nif]
fn relay_leave_device<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: &str,
    user: &str,
    pid: LocalPid,
    now_ms: u64,
) -> Term<'a> {
    answer(env, relay.0.leave_device(id, user, pid, now_ms))
}

/// A member does something to another one. Normal scheduler.
#[rustler::nif]
fn relay_change<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: &str,
    verb: Verb,
    actor: &str,
    target: &str,
    now_ms: u64,
) -> Term<'a> {
    let outcome = relay.0.change(id, verb.into(), actor, target, now_ms);
    done(env, outcome)
}

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
                to,
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

/// One recipient of so many is looked at, unless that would be more often than so: a look costs as much
/// as several messages, and delays those that are on their way. Even who sends all the time then sends
/// a recipient no more than some thousand messages between two looks.
const SAMPLED: usize = 256;
const LOOK_EVERY_NS: u64 = 500_000;

/// Sends the message of each lane to its devices for some hundred microseconds: `{more?, dropped,
/// sample}`. The lanes are in order, as in a fan. `dropped` did not get it, because they are slow; `sample` are some who did. Normal
/// scheduler.
#[rustler::nif]
fn relay_send<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    fan: &FanResource,
    messages: Vec<(u32, Term<'a>)>,
) -> (bool, usize, Vec<LocalPid>) {
    let recipients = &fan.to.recipients;
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
                looked_at = looked_at.saturating_add(SAMPLED);
            }
            next += 1;
            if !slow.is_empty() && slow.contains(&recipient.to) {
                dropped += 1;
                continue;
            }
            // A group that is joined through topics of each user's own has as many lanes.
            let of_lane = messages.binary_search_by_key(&recipient.lane, |(lane, _)| *lane);
            if let Some((_, message)) = of_lane.ok().and_then(|at| messages.get(at)) {
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
    if !sample.is_empty() {
        relay.1.looked(now, sample.len());
    }
    (next < recipients.len(), dropped, sample)
}

/// From now on nothing is sent to these. Normal scheduler: they are few.
#[rustler::nif]
fn relay_slow(relay: &RelayResource, pids: Vec<LocalPid>) -> Atom {
    let pids = pids.into_iter().collect::<AHashSet<_>>();
    relay.1.pids.store(std::sync::Arc::new(pids));
    atom::ok()
}

/// Reclaims memory of the limits on messages: whether there is more. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_sweep(relay: &RelayResource, now: i64, budget: usize) -> bool {
    let now = Nanos(now.cast_unsigned() ^ (1 << 63));
    relay.0.sweep(now, budget).more
}
