//! Devices are monitored, and leave the relay when they exit.

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
        self.device_exited(env, pid);
    }
}

impl RelayResource {
    /// A device has exited. The process that handles disconnects is told, and looks by itself when it starts.
    fn device_exited(&self, env: Env<'_>, pid: LocalPid) {
        if self.0.device_exited(pid) {
            if let Some(handler) = env.whereis_pid(atoms::relay_disconnects()) {
                let _ = env.send(&handler, atoms::device_exited());
            }
        }
    }
}

/// Takes out devices that have ended until some users have left: `[{group, user, stays?,
/// elsewhere?}]`, and the same again until each is acknowledged. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_disconnects<'a>(env: Env<'a>, relay: &RelayResource, enough: usize) -> Vec<Term<'a>> {
    let disconnects = relay.0.disconnects(enough, wall_clock_ms());
    let disconnects = disconnects.iter();
    disconnects
        .map(|left| (&*left.group, &*left.user, left.stays, left.elsewhere).encode(env))
        .collect()
}

/// Acknowledges the first of them. Normal scheduler.
#[rustler::nif]
fn relay_ack_disconnect(relay: &RelayResource) -> Atom {
    relay.0.ack_disconnect();
    atom::ok()
}

fn wall_clock_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// `:ok` once a device that has joined is monitored, or why it has not.
pub fn monitored<'a>(
    env: Env<'a>,
    relay: &ResourceArc<RelayResource>,
    pid: LocalPid,
    unmonitored: Result<bool, Refusal>,
) -> Term<'a> {
    if unmonitored == Ok(true) {
        monitor_device(env, relay, pid);
    }
    done(env, unmonitored.map(drop))
}

/// Has the device taken out when it ends; at once if it has ended already.
pub fn monitor_device(env: Env<'_>, relay: &ResourceArc<RelayResource>, pid: LocalPid) {
    if relay.monitor(Some(env), &pid).is_none() {
        relay.device_exited(env, pid);
    }
}
