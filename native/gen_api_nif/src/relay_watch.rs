//! Devices are watched, and leave the relay when they end.

use crate::atoms;
use crate::relay::RelayResource;
use crate::relay_terms::done;
use gen_api_core::relay::{Left, Refusal};
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc, Term};
use std::time::SystemTime;

#[rustler::resource_impl]
impl Resource for RelayResource {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        self.ended(env, pid);
    }
}

impl RelayResource {
    /// A device has ended: it leaves everything, and whoever follows departures is told.
    fn ended(&self, env: Env<'_>, pid: LocalPid) {
        let left = self.0.end(pid, wall_clock_ms());
        if left.is_empty() {
            return;
        }
        if let Some(watcher) = env.whereis_pid(atoms::relay_departures()) {
            // Not whether groups are shared by now: each stays, or has gone, by what held for him.
            let stays = left.iter().any(|left| left.stays);
            let left: Vec<(&str, &str, bool)> = left.iter().map(departure).collect();
            let _ = env.send(&watcher, (atoms::left(), left, stays));
        }
    }
}

fn departure(left: &Left) -> (&str, &str, bool) {
    (&left.group, &left.user, left.last)
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
