//! NIFs of `PhoenixGenApi.Channel.Requests`.

use crate::atoms;
use crate::channel_requests_terms::{
    admission, send_if, AcknowledgementAtom, KindAtom, LimitsTuple, Messages, Saved, Small,
};
use crate::client_connection::ShareResource;
use crate::decode::Name;
use gen_api_core::connections::{Acknowledgement, Cancelled, Ended, Requests, Share, Traits, Turn};
use parking_lot::Mutex;
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, LocalPid, Monitor, Resource, ResourceArc, Term};
use std::sync::Arc;

/// The requests of one event of a channel, and how they are answered.
pub struct RequestsResource {
    requests: Requests<LocalPid, Saved>,
    delivery: Mutex<Saved>,
}

#[rustler::resource_impl]
impl Resource for RequestsResource {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        self.carry_out(env, self.requests.ended(pid));
    }
}

impl std::panic::RefUnwindSafe for RequestsResource {}

impl RequestsResource {
    /// What cannot be sent, as its process has just ended, is lost: the channel is about to end, too.
    fn carry_out(&self, env: Env<'_>, ended: Ended<LocalPid, Saved>) {
        if !ended.kill.is_empty() {
            if let Some(reaper) = env.whereis_pid(atoms::reaper()) {
                for pid in ended.kill {
                    let _ = env.send(&reaper, (atoms::kill(), pid));
                }
            }
        }
        if !ended.lost.is_empty() {
            if let Some(watchdog) = env.whereis_pid(atoms::channel_watchdog()) {
                for lost in ended.lost {
                    let (delivery, info) = (self.delivery.lock().load(env), lost.info.load(env));
                    let what = match (lost.kind, lost.called) {
                        (Some(kind), _) => KindAtom(kind).encode(env),
                        (None, true) => atoms::function().encode(env),
                        (None, false) => atom::nil().encode(env),
                    };
                    let _ = env.send(&watchdog, (atoms::lost(), delivery, info, what));
                }
            }
        }
        wake(env, ended.wake);
        if let Some(process) = ended.proceed {
            let _ = env.send(&process, atoms::proceed());
        }
    }
}

fn wake(env: Env<'_>, queue: Option<LocalPid>) {
    if let Some(queue) = queue {
        let _ = env.send(&queue, atoms::turn());
    }
}

/// None yet, of another event of a channel, or in the connection of that share, or in one of their own; `waits` counts what waits for the channel. They end with the channel and its transport;
/// `delivery` goes with what is told of those that are lost. Normal scheduler, copies `delivery`.
#[rustler::nif]
fn channel_requests_new<'a>(
    env: Env<'a>,
    sibling: Option<ResourceArc<RequestsResource>>,
    share: Option<ResourceArc<ShareResource>>,
    waits: Option<ResourceArc<ShareResource>>,
    channel: LocalPid,
    transport: LocalPid,
    delivery: Small<'a>,
) -> ResourceArc<RequestsResource> {
    let requests = match (sibling, share) {
        (Some(sibling), _) => sibling.requests.sibling(),
        (None, share) => {
            let share = share.map_or_else(|| Share::new(Arc::default()), |it| it.0.sibling());
            let waits = waits.map_or_else(Arc::default, |it| it.0.shared_connection());
            Requests::new(share, waits, channel, transport)
        }
    };
    let resource = ResourceArc::new(RequestsResource {
        requests,
        delivery: Mutex::new(Saved::new(delivery.0)),
    });
    for owner in [channel, transport] {
        if env.monitor(&resource, &owner).is_none() {
            resource.carry_out(env, resource.requests.ended(owner));
        }
    }
    resource
}

/// A request arrives: whether it starts, waits or is refused. Normal scheduler.
#[rustler::nif]
fn channel_requests_admit<'a>(
    env: Env<'a>,
    requests: &RequestsResource,
    limits: LimitsTuple,
    id: Name<'a>,
    traits: (bool, bool, bool),
    until: i64,
) -> Term<'a> {
    let (holds_id, long, in_order) = traits;
    let traits = Traits {
        holds_id,
        long,
        in_order,
    };
    let id = id.as_bytes();
    let admitted = (requests.requests).admit(id, traits, &limits.0, until);
    admission(env, admitted)
}

/// What the answer of a request needs that waits, and whether it still does. Normal scheduler, copies `info`.
#[rustler::nif]
fn channel_requests_waits(requests: &RequestsResource, number: u64, info: Small<'_>) -> bool {
    requests.requests.waits(number, Saved::new(info.0))
}

/// Something else arrives. Normal scheduler.
#[rustler::nif]
fn channel_requests_admit_other<'a>(
    env: Env<'a>,
    requests: &RequestsResource,
    limits: LimitsTuple,
    until: i64,
    wait: bool,
) -> Term<'a> {
    admission(env, requests.requests.admit_other(&limits.0, until, wait))
}

/// A process was started for a request that may start; false if it is to be killed. Normal scheduler, copies `info`.
#[rustler::nif]
fn channel_requests_started<'a>(
    env: Env<'a>,
    requests: ResourceArc<RequestsResource>,
    number: u64,
    process: LocalPid,
    info: Small<'a>,
) -> bool {
    let watch = || env.monitor(&requests, &process).is_some();
    let (go_on, ended) = (requests.requests).started(number, process, Saved::new(info.0), watch);
    requests.carry_out(env, ended);
    go_on
}

/// The calling process is that of a request that starts after another one: whether it has to wait for `:proceed`.
#[rustler::nif]
fn channel_requests_follow(env: Env<'_>, requests: &RequestsResource, number: u64) -> bool {
    requests.requests.follow(number, env.pid())
}

/// The calling process is about to run the function of its request.
#[rustler::nif]
fn channel_requests_called(requests: &RequestsResource, number: u64) -> Atom {
    requests.requests.called(number);
    atom::ok()
}

/// Answers a request that executes, unless somebody else has claimed it. Normal scheduler, copies the messages to
/// their receivers as sending does.
#[rustler::nif]
fn channel_requests_finish<'a>(
    env: Env<'a>,
    requests: &RequestsResource,
    number: u64,
    messages: Messages<'a>,
) -> bool {
    send_if(env, requests.requests.finish(number), messages)
}

/// Claims the answer of a request that executes: the delivery and its info, or nil. Normal scheduler, copies both.
#[rustler::nif]
fn channel_requests_claim<'a>(
    env: Env<'a>,
    requests: &RequestsResource,
    number: u64,
) -> Option<(Term<'a>, Term<'a>)> {
    let info = requests.requests.claim(number)?;
    Some((requests.delivery.lock().load(env), info.load(env)))
}

/// Acknowledges a request, unless it is over a limit or somebody else has claimed it.
#[rustler::nif]
fn channel_requests_acknowledge<'a>(
    env: Env<'a>,
    requests: &RequestsResource,
    number: u64,
    kind: KindAtom,
    running: u32,
    messages: Messages<'a>,
) -> AcknowledgementAtom {
    let acknowledgement = requests.requests.acknowledge(number, kind.0, running);
    send_if(env, acknowledgement == Acknowledgement::Granted, messages);
    AcknowledgementAtom(acknowledgement)
}

/// The acknowledgement is sent: whether the request goes on.
#[rustler::nif]
fn channel_requests_acknowledged(env: Env<'_>, requests: &RequestsResource, number: u64) -> bool {
    let (goes_on, queue) = requests.requests.acknowledged(number);
    wake(env, queue);
    goes_on
}

/// Sends the last result of an acknowledged request, unless it was cancelled; with `cancelled`, the last frame of a
/// stream that was.
#[rustler::nif]
fn channel_requests_finish_running<'a>(
    env: Env<'a>,
    requests: &RequestsResource,
    number: u64,
    cancelled: bool,
    messages: Messages<'a>,
) -> bool {
    let requests = &requests.requests;
    let finished = if cancelled {
        requests.finish_cancelled(number)
    } else {
        requests.finish_running(number)
    };
    send_if(env, finished, messages)
}

/// Ends the requests of an id, or with `streams` the streams of an id that run: what is left to do for each. Normal
/// scheduler, walks the requests of the channel, which are bounded.
#[rustler::nif]
fn channel_requests_cancel<'a>(
    env: Env<'a>,
    requests: &RequestsResource,
    id: Name<'a>,
    streams: bool,
) -> Vec<Term<'a>> {
    let cancelled = requests.requests.cancel(id.as_bytes(), streams);
    let left = cancelled.into_iter().map(|one| match one {
        Cancelled::Waiting(number, queue, info) => {
            (atoms::waiting(), number, queue, info.load(env)).encode(env)
        }
        Cancelled::Executing(process, info) => {
            (atoms::executing(), process, info.load(env)).encode(env)
        }
        Cancelled::Running(process) => (atoms::running(), process).encode(env),
    });
    left.collect()
}

/// The processes of the async and stream requests of an id. Normal scheduler, walks the requests of the channel.
#[rustler::nif]
fn channel_requests_long(requests: &RequestsResource, id: Name<'_>) -> Vec<LocalPid> {
    requests.requests.long(id.as_bytes())
}

/// That process is where requests wait. Normal scheduler.
#[rustler::nif]
fn channel_requests_set_queue(
    env: Env<'_>,
    requests: ResourceArc<RequestsResource>,
    queue: LocalPid,
) -> Atom {
    let watch = || env.monitor(&requests, &queue).is_some();
    let ended = requests.requests.set_queue(queue, watch);
    requests.carry_out(env, ended);
    atom::ok()
}

/// Whose turn it is among those up to a number. Normal scheduler.
#[rustler::nif]
fn channel_requests_turn<'a>(
    env: Env<'a>,
    requests: &RequestsResource,
    limits: LimitsTuple,
    upto: u64,
    reads: bool,
) -> Term<'a> {
    match requests.requests.turn(&limits.0, upto, reads) {
        Turn::Nobody => atoms::nobody().encode(env),
        Turn::Reading => atoms::reading().encode(env),
        Turn::Start(number, follows) => (atoms::start(), number, follows).encode(env),
        Turn::Refused(number) => (atoms::refused(), number).encode(env),
        Turn::Other(number) => (atoms::other(), number).encode(env),
    }
}

/// Answers one that waits, unless it does so no more. Normal scheduler, walks those that wait, copies the messages to
/// their receivers as sending does.
#[rustler::nif]
fn channel_requests_finish_waiting<'a>(
    env: Env<'a>,
    requests: &RequestsResource,
    number: u64,
    messages: Messages<'a>,
) -> bool {
    send_if(env, requests.requests.finish_waiting(number), messages)
}

/// Those up to a number whose time is up, and when the next one's is. Normal scheduler, walks those
/// that wait.
#[rustler::nif]
fn channel_requests_expire(
    requests: &RequestsResource,
    now: i64,
    upto: u64,
) -> (Vec<u64>, Option<i64>) {
    requests.requests.expire(now, upto)
}

/// Whether that process, where requests wait, may end.
#[rustler::nif]
fn channel_requests_retire(requests: &RequestsResource, queue: LocalPid) -> bool {
    requests.requests.retire(queue)
}

/// How many execute, go on after their acknowledgement, and wait.
#[rustler::nif]
fn channel_requests_count(requests: &RequestsResource) -> (usize, usize, usize) {
    requests.requests.count()
}
