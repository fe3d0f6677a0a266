//! NIFs of `PhoenixGenApi.RPC.Server`: functions that run here for other nodes.

use crate::node_selector::now;
use gen_api_core::call_table::{CallKey, CallTable};
use rustler::types::atom;
use rustler::{Atom, Env, LocalPid, Resource, ResourceArc};

/// The functions that run on this node for others.
//
// Their processes hold nothing of it. A resource of its own for each, whose destructor would take the row out,
// costs the round trip of a call on an idle node a fifth.
pub struct CallTableResource(CallTable<LocalPid>);

impl std::panic::RefUnwindSafe for CallTableResource {}

#[rustler::resource_impl]
impl Resource for CallTableResource {}

/// Nothing runs yet.
#[rustler::nif]
fn rpc_server_new() -> ResourceArc<CallTableResource> {
    ResourceArc::new(CallTableResource(CallTable::new()))
}

/// The calling process begins a call: whether it may.
#[rustler::nif]
fn rpc_server_enter(env: Env<'_>, calls: &CallTableResource, key: (u64, u64)) -> bool {
    let alive = |pid: LocalPid| pid.is_alive(env);
    calls.0.enter(CallKey(key.0, key.1), env.pid(), alive)
}

/// A call has ended.
#[rustler::nif]
fn rpc_server_leave(calls: &CallTableResource, key: (u64, u64)) -> Atom {
    calls.0.leave(CallKey(key.0, key.1));
    atom::ok()
}

/// Nobody waits for this call any more: the process to be killed, or nil if it is not here (yet).
#[rustler::nif]
fn rpc_server_revoke(calls: &CallTableResource, key: (u64, u64)) -> Option<LocalPid> {
    calls.0.revoke(CallKey(key.0, key.1), now())
}

/// The processes of the calls that run. Dirty CPU scheduler: linear in their number.
#[rustler::nif(schedule = "DirtyCpu")]
fn rpc_server_running(env: Env<'_>, calls: &CallTableResource) -> Vec<LocalPid> {
    calls.0.running(|pid| pid.is_alive(env))
}

/// How many calls run, and how many revoked ones are remembered.
#[rustler::nif(schedule = "DirtyCpu")]
fn rpc_server_size(env: Env<'_>, calls: &CallTableResource) -> (usize, usize) {
    calls.0.size(|pid| pid.is_alive(env))
}
