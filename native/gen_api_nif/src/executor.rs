//! NIFs of `PhoenixGenApi.Executor`: calls in progress.

use crate::atoms;
use crate::decode::{atom_enum, AnyPid};
use crate::node_selector::now;
use crate::plan::PlanResource;
use crate::route::Routed;
use gen_api_core::breaker::{Caller, Outcome, Transition};
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{CallerKind, Entry, Flight, Node, Ticket};
use gen_api_core::retry::Allowance;
use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::types::atom;
use rustler::{
    Atom, Encoder, Env, Error, LocalPid, NifResult, OwnedEnv, Resource, ResourceArc, Term,
};
use std::sync::Arc;

/// A call in progress. Its node counts as busier until the call ends; if the caller dies
/// first, the process that runs the function is handed to the reaper to be killed, or its key to be
/// revoked, and a probe is given back.
pub struct CallResource {
    candidate: Option<Candidate>,
    ticket: Option<Ticket>,
    caller: Option<Caller>,
    began: Option<Nanos>,
    callee: Mutex<Callee>,
}

/// The node that the call began on, whatever becomes of the candidates before it ends.
enum Candidate {
    Counted(Flight),
    Uncounted(Arc<Node>),
}

impl Candidate {
    fn node(&self) -> &Arc<Node> {
        match self {
            Candidate::Counted(flight) => flight.node(),
            Candidate::Uncounted(node) => node,
        }
    }
}

enum Callee {
    None,
    /// Asked for from a node that has not yet said which process it is; the key that revokes it there.
    Asked(Atom, (u64, u64)),
    Local(LocalPid),
    Remote(OwnedEnv, SavedTerm),
}

impl std::panic::RefUnwindSafe for CallResource {}

#[rustler::resource_impl]
impl Resource for CallResource {
    const IMPLEMENTS_DESTRUCTOR: bool = true;

    fn destructor(self, env: Env<'_>) {
        if let Some(ticket) = &self.ticket {
            ticket.give_back(now);
        }
        let order = match self.callee.into_inner() {
            Callee::None => return,
            Callee::Asked(node, key) => (atoms::revoke(), node, key).encode(env),
            Callee::Local(pid) => (atoms::kill(), pid).encode(env),
            Callee::Remote(own, saved) => {
                let pid = own.run(|own| saved.load(own).in_env(env));
                (atoms::kill(), pid).encode(env)
            }
        };
        if let Some(reaper) = env.whereis_pid(atoms::reaper()) {
            // A reaper that has just died leaves the function to its own end.
            let _ = env.send(&reaper, order);
        }
    }
}

/// `user_id`, or `{:address, address}`.
enum Identity<'a> {
    User(&'a [u8]),
    Address(&'a [u8]),
}

impl<'a> rustler::Decoder<'a> for Identity<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if let Ok(user) = term.decode::<rustler::Binary>() {
            return Ok(Identity::User(user.as_slice()));
        }
        let (kind, address): (Atom, rustler::Binary) = term.decode()?;
        if kind != atoms::address() {
            return Err(Error::BadArg);
        }
        Ok(Identity::Address(address.as_slice()))
    }
}

/// Begins a call for a caller on the candidate at that place, or on no candidate when `routed` is nil or the node is
/// one no longer; `:circuit_open` when the candidate must not be called now.
#[rustler::nif]
fn executor_begin<'a>(
    env: Env<'a>,
    routed: Option<Routed<'a>>,
    place: u64,
    caller: Option<Identity<'a>>,
) -> NifResult<Term<'a>> {
    let mut call = CallResource {
        candidate: None,
        ticket: None,
        caller: None,
        began: None,
        callee: Mutex::new(Callee::None),
    };
    if let Some(routed) = routed {
        let route = routed.route()?;
        let entry = route.at_place(place, |found| {
            let (node, candidates) = found?;
            let entry = route.enter(node, candidates);
            if !matches!(entry, Entry::Refused) {
                call.candidate = Some(match route.flight(node) {
                    Some(flight) => Candidate::Counted(flight),
                    None => Candidate::Uncounted(Arc::clone(node)),
                });
            }
            Some(entry)
        });
        match entry {
            None => return Ok(ResourceArc::new(call).encode(env)),
            Some(Entry::Refused) => return Ok(atoms::circuit_open().encode(env)),
            Some(Entry::Free) => {}
            Some(Entry::Ticket(ticket)) => call.ticket = Some(ticket),
        }
        call.began = route.began();
        call.caller = caller.map(|caller| match caller {
            Identity::User(user) => route.caller(CallerKind::User, user),
            Identity::Address(address) => route.caller(CallerKind::Address, address),
        });
    }
    Ok(ResourceArc::new(call).encode(env))
}

/// Whether the candidate at that place may be called, for a call that ends with the process that makes it: `:free` if
/// nothing has to be kept for it, or `:call` if it has to begin like any other. Constant, but linear in the members of a
/// set that has changed since.
#[rustler::nif]
fn executor_enter(routed: Routed<'_>, place: u64) -> NifResult<Atom> {
    let route = routed.route()?;
    let free = route.at_place(place, |found| {
        found.is_some_and(|(node, _)| route.needs_no_call(node))
    });
    Ok(if free { atoms::free() } else { atoms::call() })
}

/// Another node is going to be asked to run the function, under a key that revokes it there.
#[rustler::nif]
fn executor_set_node(call: &CallResource, node: Atom, key: (u64, u64)) -> Atom {
    *call.callee.lock() = Callee::Asked(node, key);
    atom::ok()
}

/// Names the process that runs the function.
#[rustler::nif]
fn executor_set_process(call: &CallResource, callee: AnyPid<'_>) -> Atom {
    *call.callee.lock() = match callee.0.decode() {
        Ok(pid) => Callee::Local(pid),
        Err(_) => {
            let own = OwnedEnv::new();
            let saved = own.save(callee.0);
            Callee::Remote(own, saved)
        }
    };
    atom::ok()
}

/// The call has ended, and says nothing about its node.
#[rustler::nif]
fn executor_end(call: &CallResource) -> Atom {
    call.end();
    if let Some(ticket) = &call.ticket {
        ticket.give_back(now);
    }
    atom::ok()
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq)]
pub enum End {
    Success,
    /// With an answer, which speaks for the node all the same.
    Error,
    Failure,
    Lost,
}

atom_enum!(Ended(End) {
    success => End::Success,
    error => End::Error,
    failure => End::Failure,
    lost => End::Lost,
});

/// The call has ended, which speaks for or against the candidate that it began on: `:ok`, or what
/// this has done to the circuit: `{:opened | :closed, failures, service, request_type, version}`.
#[rustler::nif]
fn executor_settle<'a>(
    env: Env<'a>,
    call: &CallResource,
    routed: Routed<'a>,
    ended: Ended,
) -> NifResult<Term<'a>> {
    let outcome = match ended.0 {
        End::Success | End::Error => Outcome::Success,
        End::Failure => Outcome::Failure,
        End::Lost => Outcome::Lost,
    };
    call.note_duration(&routed, ended.0 == End::Success)?;
    call.end();
    call.record(env, routed, outcome)
}

/// The call has not ended, but has begun in a way that speaks for its candidate: what `executor_settle` returns,
/// or `:later` when that is not noted now. With `probe_only` only a probe is.
#[rustler::nif]
fn executor_report_success<'a>(
    env: Env<'a>,
    call: &CallResource,
    routed: Routed<'a>,
    probe_only: bool,
) -> NifResult<Term<'a>> {
    if probe_only && !call.ticket.as_ref().is_some_and(Ticket::is_probe) {
        return Ok(atoms::later().encode(env));
    }
    call.record(env, routed, Outcome::Success)
}

impl CallResource {
    fn end(&self) {
        *self.callee.lock() = Callee::None;
        if let Some(Candidate::Counted(flight)) = &self.candidate {
            flight.finish();
        }
    }

    /// Before it ends as a call in flight, so that a failed one is load all the time.
    fn note_duration(&self, routed: &Routed<'_>, well: bool) -> NifResult<()> {
        if let (Some(began), Some(Candidate::Counted(flight))) = (self.began, &self.candidate) {
            let stats = routed.route()?.call_stats();
            stats.record_duration(flight.node(), well, began, now());
        }
        Ok(())
    }

    fn record<'a>(
        &self,
        env: Env<'a>,
        routed: Routed<'a>,
        outcome: Outcome,
    ) -> NifResult<Term<'a>> {
        let route = routed.route()?;
        let Some(node) = self.candidate.as_ref().map(Candidate::node) else {
            return Ok(atom::ok().encode(env));
        };
        let stats = route.call_stats();
        let ticket = self.ticket.as_ref();
        let (change, failures) = match stats.leave(node, ticket, outcome, self.caller, now) {
            Transition::None => return Ok(atom::ok().encode(env)),
            Transition::Opened { failures } => (atoms::opened(), failures),
            Transition::Closed => (atoms::closed(), 0),
        };
        let [service, request_type, version] = stats.name();
        Ok((change, failures, service, request_type, version).encode(env))
    }
}

/// A request begins that may be tried again.
#[rustler::nif]
fn executor_count(plan: &PlanResource) -> NifResult<Atom> {
    let stats = plan.call_stats().ok_or(Error::BadArg)?;
    stats.budget().request(now());
    Ok(atom::ok())
}

/// Whether the function may make one more retry, which then counts: at most `ratio` for each request, and
/// `free` in any case.
#[rustler::nif]
fn executor_retry(plan: &PlanResource, ratio: f64, free: u32) -> NifResult<bool> {
    let stats = plan.call_stats().ok_or(Error::BadArg)?;
    Ok(stats.budget().retry(now(), Allowance { ratio, free }))
}
