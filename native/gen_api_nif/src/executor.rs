//! NIFs of `PhoenixGenApi.Executor`: calls in progress.

use crate::atoms;
use crate::route::Routed;
use gen_api_core::nodes::Flight;
use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, LocalPid, NifResult, OwnedEnv, Resource, ResourceArc, Term};

/// A call in progress. Its node counts as busier until the call ends; if the caller dies
/// first, the process that runs the function is handed to the reaper to be killed.
pub struct CallResource {
    flight: Option<Flight>,
    callee: Mutex<Callee>,
}

enum Callee {
    None,
    Local(LocalPid),
    Remote(OwnedEnv, SavedTerm),
}

impl std::panic::RefUnwindSafe for CallResource {}

#[rustler::resource_impl]
impl Resource for CallResource {
    const IMPLEMENTS_DESTRUCTOR: bool = true;

    fn destructor(self, env: Env<'_>) {
        let pid = match self.callee.into_inner() {
            Callee::None => return,
            Callee::Local(pid) => pid.encode(env),
            Callee::Remote(own, saved) => own.run(|own| saved.load(own).in_env(env)),
        };
        if let Some(reaper) = env.whereis_pid(atoms::reaper()) {
            // A reaper that has just died leaves the function to its own end.
            let _ = env.send(&reaper, (atoms::kill(), pid));
        }
    }
}

/// Begins a call on the candidate at `index`, or on no candidate when `routed` is nil.
#[rustler::nif]
fn executor_begin(
    routed: Option<Routed<'_>>,
    index: usize,
) -> NifResult<ResourceArc<CallResource>> {
    let flight = match routed {
        None => None,
        Some(routed) => routed.route()?.node(index).map(Flight::start),
    };
    Ok(ResourceArc::new(CallResource {
        flight,
        callee: Mutex::new(Callee::None),
    }))
}

/// Names the process that runs the function.
#[rustler::nif]
fn executor_watch(call: &CallResource, callee: Term<'_>) -> Atom {
    *call.callee.lock() = match callee.decode() {
        Ok(pid) => Callee::Local(pid),
        Err(_) => {
            let own = OwnedEnv::new();
            let saved = own.save(callee);
            Callee::Remote(own, saved)
        }
    };
    atom::ok()
}

/// The call has ended, whatever became of it.
#[rustler::nif]
fn executor_end(call: &CallResource) -> Atom {
    *call.callee.lock() = Callee::None;
    if let Some(flight) = &call.flight {
        flight.finish();
    }
    atom::ok()
}
