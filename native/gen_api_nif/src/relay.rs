//! NIFs of `PhoenixGenApi.Relay`.
//!
//! Every operation on a group is constant in its size and runs on a normal scheduler; what walks
//! all members or groups runs on a dirty one. Messages are sent in slices, and never under a lock.

use crate::atoms;
use ahash::AHashSet;
use arc_swap::ArcSwap;
use gen_api_core::clock::Nanos;
use gen_api_core::relay::{
    Bounds, Change, Created, Device, FanOut, GroupType, Refusal, Relay, Status,
};
use rustler::types::atom;
use rustler::types::tuple::make_tuple;
use rustler::{
    Atom, Binary, Encoder, Env, LocalPid, Monitor, NifTuple, NifUnitEnum, Resource, ResourceArc,
    Term,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// All groups of this gateway, and the recipients that cannot keep up.
pub struct RelayResource(pub Relay<LocalPid>, Slow);

/// Whom messages are not sent to for the time being.
#[derive(Default)]
struct Slow {
    // A snapshot each: a fan-out looks once and waits for nobody.
    pids: ArcSwap<AHashSet<LocalPid>>,
    /// Messages sent so far, roughly.
    sent: AtomicUsize,
}

// A panic leaves locks open and counts that are each consistent.
impl std::panic::RefUnwindSafe for RelayResource {}

#[rustler::resource_impl]
impl Resource for RelayResource {
    const IMPLEMENTS_DOWN: bool = true;

    // On whichever scheduler the process ended: what follows is done elsewhere.
    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        self.ended(env, pid);
    }
}

impl RelayResource {
    /// A device has ended. Whoever follows departures is told, and looks himself when he starts.
    fn ended(&self, env: Env<'_>, pid: LocalPid) {
        if self.0.ended(pid) {
            if let Some(watcher) = env.whereis_pid(atoms::relay_departures()) {
                let _ = env.send(&watcher, atoms::ended());
            }
        }
    }
}

fn wall_clock_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// Where the messages of one publish still have to go.
pub struct FanResource {
    to: FanOut<LocalPid>,
    next: AtomicUsize,
}

#[rustler::resource_impl]
impl Resource for FanResource {}

impl std::panic::RefUnwindSafe for FanResource {}

#[derive(Clone, Copy, NifUnitEnum)]
pub enum Kind {
    Public,
    Private,
    StrictPrivate,
}

impl From<Kind> for GroupType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Public => Self::Public,
            Kind::Private => Self::Private,
            Kind::StrictPrivate => Self::StrictPrivate,
        }
    }
}

pub fn kind_atom(kind: GroupType) -> Atom {
    match kind {
        GroupType::Public => atoms::public(),
        GroupType::Private => atoms::private(),
        GroupType::StrictPrivate => atoms::strict_private(),
    }
}

pub fn status_atom(status: Status) -> Atom {
    match status {
        Status::Active => atoms::active(),
        Status::Pending => atoms::pending(),
        Status::Muted => atoms::muted(),
    }
}

#[derive(Clone, Copy, NifUnitEnum)]
pub enum Verb {
    Accept,
    Mute,
    Unmute,
    Kick,
    Ban,
    Unban,
    Promote,
    Demote,
}

impl From<Verb> for Change {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Accept => Self::Accept,
            Verb::Mute => Self::Mute,
            Verb::Unmute => Self::Unmute,
            Verb::Kick => Self::Kick,
            Verb::Ban => Self::Ban,
            Verb::Unban => Self::Unban,
            Verb::Promote => Self::Promote,
            Verb::Demote => Self::Demote,
        }
    }
}

pub fn refused(env: Env<'_>, refusal: Refusal) -> Term<'_> {
    let reason = match refusal {
        Refusal::TooFast(after_ms) => return (atoms::too_fast(), after_ms).encode(env),
        Refusal::NotFound => atoms::not_found(),
        Refusal::AlreadyExists => atoms::already_exists(),
        Refusal::TooManyGroups => atoms::too_many_groups(),
        Refusal::AlreadyMember => atoms::already_member(),
        Refusal::GroupFull => atoms::group_full(),
        Refusal::Banned => atoms::banned(),
        Refusal::NotInGroup => atoms::user_not_in_group(),
        Refusal::NotAdmin => atoms::not_admin(),
        Refusal::NotPending => atoms::user_not_pending(),
        Refusal::NotStrictPrivate => atoms::not_strict_private(),
        Refusal::CannotMute => atoms::cannot_mute(),
        Refusal::NotMuted => atoms::not_muted(),
        Refusal::CannotKick => atoms::cannot_kick(),
        Refusal::CannotBan => atoms::cannot_ban(),
        Refusal::AlreadyBanned => atoms::already_banned(),
        Refusal::NotBanned => atoms::not_banned(),
        Refusal::CannotPromote => atoms::cannot_promote(),
        Refusal::AlreadyAdmin => atoms::already_admin(),
        Refusal::CannotDemote => atoms::cannot_demote(),
        Refusal::LastAdmin => atoms::last_admin(),
        Refusal::Pending => atoms::pending(),
        Refusal::Muted => atoms::muted(),
        Refusal::Shared => atoms::shared(),
    };
    reason.encode(env)
}

/// `:ok`, or why not.
fn done(env: Env<'_>, outcome: Result<(), Refusal>) -> Term<'_> {
    match outcome {
        Ok(()) => atom::ok().encode(env),
        Err(refusal) => refused(env, refusal),
    }
}

/// Who joins, whom messages are sent to, and in which form.
pub type Joining<'a> = (LocalPid, LocalPid, Binary<'a>);

pub fn device<'d>(joining: &'d Joining<'_>) -> Device<'d, LocalPid> {
    Device {
        id: joining.0,
        to: joining.1,
        lane: &joining.2,
    }
}

/// Has the device taken out when it ends; at once if it has ended already.
pub fn watch(env: Env<'_>, relay: &ResourceArc<RelayResource>, pid: LocalPid) {
    if relay.monitor(Some(env), &pid).is_none() {
        relay.ended(env, pid);
    }
}

/// Groups, members, pending members, groups per user, grace in ms.
#[derive(NifTuple)]
struct BoundsTerm {
    groups: usize,
    members: usize,
    pending: usize,
    groups_per_user: usize,
    grace_ms: u64,
}

impl From<BoundsTerm> for Bounds {
    fn from(term: BoundsTerm) -> Self {
        Self {
            groups: term.groups,
            members: term.members,
            pending: term.pending,
            groups_per_user: term.groups_per_user,
            grace_ms: term.grace_ms,
        }
    }
}

/// An index without groups.
#[rustler::nif]
fn relay_new(bounds: BoundsTerm) -> ResourceArc<RelayResource> {
    ResourceArc::new(RelayResource(Relay::new(bounds.into()), Slow::default()))
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
    if outcome == Ok(true) {
        watch(env, &relay, joining.0);
    }
    done(env, outcome.map(drop))
}

/// Deletes a group: how many members were in it, or why not. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_delete<'a>(env: Env<'a>, relay: &RelayResource, id: &str) -> Term<'a> {
    match relay.0.delete(id) {
        Ok(members) => members.encode(env),
        Err(refusal) => refused(env, refusal),
    }
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
    match relay.0.join(id, user, device(&joining), now_ms) {
        Ok(joined) => {
            if joined.unwatched {
                watch(env, &relay, joining.0);
            }
            (atom::ok(), status_atom(joined.status)).encode(env)
        }
        Err(refusal) => refused(env, refusal),
    }
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
    match relay.0.leave_device(id, user, pid, now_ms) {
        Ok(last) => last.encode(env),
        Err(refusal) => refused(env, refusal),
    }
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

/// One recipient of so many is looked at: enough to find those that fall behind by thousands.
const SAMPLED: usize = 256;

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
    // Another place of each stretch every time, or some recipients would never be looked at.
    let seed = relay.1.sent.fetch_add(SAMPLED + 1, Ordering::Relaxed);
    let mut looked_at = first + (seed.wrapping_mul(0x9E37_79B9) >> 8) % SAMPLED;
    let started = Instant::now();
    while next < recipients.len() {
        for recipient in recipients.slice(next, BETWEEN_LOOKS) {
            if next == looked_at {
                sample.push(recipient.to);
                looked_at += SAMPLED;
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
    (next < recipients.len(), dropped, sample)
}

/// From now on nothing is sent to these. Normal scheduler: they are few.
#[rustler::nif]
fn relay_slow(relay: &RelayResource, pids: Vec<LocalPid>) -> Atom {
    let pids = pids.into_iter().collect::<AHashSet<_>>();
    relay.1.pids.store(std::sync::Arc::new(pids));
    atom::ok()
}

/// Takes out devices that have ended until some users have left: `[{group, user, stays?}]`, and
/// the same again until each was dealt with. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_departures<'a>(env: Env<'a>, relay: &RelayResource, enough: usize) -> Vec<Term<'a>> {
    let departures = relay.0.departures(enough, wall_clock_ms());
    let departures = departures.iter();
    departures
        .map(|left| (&*left.group, &*left.user, left.stays).encode(env))
        .collect()
}

/// The first of them was dealt with. Normal scheduler.
#[rustler::nif]
fn relay_dealt_with(relay: &RelayResource) -> Atom {
    relay.0.dealt_with();
    atom::ok()
}

/// Some members: `{type, [{user, status, admin?, joined_ms, devices}], next}` or why not. Dirty
/// CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_page<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: &str,
    start: usize,
    count: usize,
) -> Term<'a> {
    match relay.0.page(id, start, count) {
        Err(refusal) => refused(env, refusal),
        Ok(page) => {
            let rows: Vec<Term> = page
                .rows
                .iter()
                .map(|row| {
                    let status = status_atom(row.status);
                    (&*row.user, status, row.admin, row.joined_ms, row.devices).encode(env)
                })
                .collect();
            (kind_atom(page.kind), rows, page.next).encode(env)
        }
    }
}

/// `[{group, status}]` of a user. Dirty CPU scheduler: it waits for each group in turn.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_groups_of<'a>(env: Env<'a>, relay: &RelayResource, user: &str) -> Term<'a> {
    let groups = relay.0.groups_of(user);
    let groups: Vec<(&str, Atom)> = groups
        .iter()
        .map(|(group, status)| (&**group, status_atom(*status)))
        .collect();
    groups.encode(env)
}

/// `{groups, members, users, devices, bytes}`. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_size(relay: &RelayResource) -> (usize, usize, usize, usize, usize) {
    let size = relay.0.size();
    (
        size.groups,
        size.members,
        size.users,
        size.devices,
        size.bytes,
    )
}

/// Reclaims memory of the limits on messages: whether there is more. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_sweep(relay: &RelayResource, now: i64, budget: usize) -> bool {
    let now = Nanos(now.cast_unsigned() ^ (1 << 63));
    relay.0.sweep(now, budget).more
}
