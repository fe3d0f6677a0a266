//! NIFs of `PhoenixGenApi.Executor.Callees`: functions that run here for other nodes.

use crate::atoms;
use crate::node_selector::now;
use gen_api_core::callees::{Callee, Callees, Key};
use parking_lot::Mutex;
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, LocalPid, Resource, ResourceArc, Term};
use std::sync::Arc;

/// The functions that run on this node for others.
pub struct CalleesResource(Arc<Callees<LocalPid>>);

/// One of them. It belongs to its process, so that it ends with that, whatever ends it.
pub struct CalleeResource(Mutex<Option<Callee<LocalPid>>>);

impl std::panic::RefUnwindSafe for CalleesResource {}
impl std::panic::RefUnwindSafe for CalleeResource {}

#[rustler::resource_impl]
impl Resource for CalleesResource {}

#[rustler::resource_impl]
impl Resource for CalleeResource {}

/// Nothing runs yet.
#[rustler::nif]
fn callees_new() -> ResourceArc<CalleesResource> {
    ResourceArc::new(CalleesResource(Arc::new(Callees::new())))
}

/// The calling process begins a call: what says that it runs, or `:revoked`.
#[rustler::nif]
fn callees_enter<'a>(env: Env<'a>, callees: &CalleesResource, key: (u64, u64)) -> Term<'a> {
    match callees.0.enter(Key(key.0, key.1), env.pid()) {
        Some(callee) => ResourceArc::new(CalleeResource(Mutex::new(Some(callee)))).encode(env),
        None => atoms::revoked().encode(env),
    }
}

/// The call has ended.
#[rustler::nif]
fn callees_leave(callee: &CalleeResource) -> Atom {
    drop(callee.0.lock().take());
    atom::ok()
}

/// Nobody waits for this call any more: the process to be killed, or nil if it is not here (yet).
#[rustler::nif]
fn callees_revoke(callees: &CalleesResource, key: (u64, u64)) -> Option<LocalPid> {
    callees.0.revoke(Key(key.0, key.1), now())
}

/// How many calls run, and how many revoked ones are remembered.
#[rustler::nif]
fn callees_size(callees: &CalleesResource) -> (usize, usize) {
    callees.0.size()
}
