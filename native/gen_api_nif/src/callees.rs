//! NIFs of `PhoenixGenApi.Executor.Callees`: functions that run here for other nodes.

use crate::node_selector::now;
use gen_api_core::callees::{Callees, Key};
use rustler::types::atom;
use rustler::{Atom, Env, LocalPid, Resource, ResourceArc};

/// The functions that run on this node for others.
//
// Their processes hold nothing of it. A resource of its own for each, whose destructor would take the row out,
// costs the round trip of a call on an idle node a fifth.
pub struct CalleesResource(Callees<LocalPid>);

impl std::panic::RefUnwindSafe for CalleesResource {}

#[rustler::resource_impl]
impl Resource for CalleesResource {}

/// Nothing runs yet.
#[rustler::nif]
fn callees_new() -> ResourceArc<CalleesResource> {
    ResourceArc::new(CalleesResource(Callees::new()))
}

/// The calling process begins a call: whether it may.
#[rustler::nif]
fn callees_enter(env: Env<'_>, callees: &CalleesResource, key: (u64, u64)) -> bool {
    let alive = |pid: LocalPid| pid.is_alive(env);
    callees.0.enter(Key(key.0, key.1), env.pid(), alive)
}

/// A call has ended.
#[rustler::nif]
fn callees_leave(callees: &CalleesResource, key: (u64, u64)) -> Atom {
    callees.0.leave(Key(key.0, key.1));
    atom::ok()
}

/// Nobody waits for this call any more: the process to be killed, or nil if it is not here (yet).
#[rustler::nif]
fn callees_revoke(callees: &CalleesResource, key: (u64, u64)) -> Option<LocalPid> {
    callees.0.revoke(Key(key.0, key.1), now())
}

/// How many calls run, and how many revoked ones are remembered.
#[rustler::nif(schedule = "DirtyCpu")]
fn callees_size(env: Env<'_>, callees: &CalleesResource) -> (usize, usize) {
    callees.0.size(|pid| pid.is_alive(env))
}
