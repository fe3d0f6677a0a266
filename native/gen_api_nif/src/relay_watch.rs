//! Devices are watched, and leave the relay when they end.

use crate::atoms;
use crate::relay::RelayResource;
use crate::relay_terms::done;
use gen_api_core::relay::Refusal;
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, LocalPid, Monitor, Resource, ResourceArc, Term};
use std::time::SystemTime;

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

/// Takes out devices that have ended until some users have left: `[{group, user, stays?,
/// elsewhere?}]`, and the same again until each was dealt with. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_departures<'a>(env: Env<'a>, relay: &RelayResource, enough: usize) -> Vec<Term<'a>> {
    let departures = relay.0.departures(enough, wall_clock_ms());
    let departures = departures.iter();
    departures
        .map(|left| (&*left.group, &*left.user, left.stays, left.elsewhere).encode(env))
        .collect()
}

/// The first of them was dealt with. Normal scheduler.
#[rustler::nif]
fn relay_dealt_with(relay: &RelayResource) -> Atom {
    relay.0.dealt_with();
    atom::ok()
}

fn wall_clock_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// `:ok` once a device that has joined is watched, or why it has not.
pub fn watched<'a>(
    env: Env<'a>,
    relay: &ResourceArc<RelayResource>,
    pid: LocalPid,
    unwatched: Result<bool, Refusal>,
) -> Term<'a> {
    if unwatched == Ok(true) {
        watch(env, relay, pid);
    }
    done(env, unwatched.map(drop))
}

/// Has the device taken out when it ends; at once if it has ended already.
pub fn watch(env: Env<'_>, relay: &ResourceArc<RelayResource>, pid: LocalPid) {
    if relay.monitor(Some(env), &pid).is_none() {
        relay.ended(env, pid);
    }
}
