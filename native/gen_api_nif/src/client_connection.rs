//! NIFs of `PhoenixGenApi.ClientConnection`.

use gen_api_core::connections::{Connection, Connections, Share};
use rustler::{Env, LocalPid, Monitor, Resource, ResourceArc};
use std::sync::Arc;

/// All connections of this gateway.
pub struct ConnectionsResource(pub Connections<LocalPid>);

#[rustler::resource_impl]
impl Resource for ConnectionsResource {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        self.0.ended(pid);
    }
}

impl std::panic::RefUnwindSafe for ConnectionsResource {}

/// One channel's share of its connection; it ends with whoever holds it.
pub struct ShareResource(pub Share);

#[rustler::resource_impl]
impl Resource for ShareResource {}

impl std::panic::RefUnwindSafe for ShareResource {}

/// Without connections.
#[rustler::nif]
fn client_connection_new() -> ResourceArc<ConnectionsResource> {
    ResourceArc::new(ConnectionsResource(Connections::default()))
}

pub fn open(
    env: Env<'_>,
    connections: &ResourceArc<ConnectionsResource>,
    pid: LocalPid,
) -> Arc<Connection> {
    let watch = || env.monitor(connections, &pid).is_some();
    connections.0.open(pid, watch)
}

/// A share of the connection of that process. Normal scheduler.
#[rustler::nif]
fn client_connection_share(
    env: Env<'_>,
    connections: ResourceArc<ConnectionsResource>,
    pid: LocalPid,
) -> ResourceArc<ShareResource> {
    ResourceArc::new(ShareResource(Share::new(open(env, &connections, pid))))
}

/// How many connections there are.
#[rustler::nif]
fn client_connection_count(connections: &ConnectionsResource) -> usize {
    connections.0.len()
}

/// A frame is sent: the bytes that may wait now.
#[rustler::nif]
fn client_connection_sent(share: &ShareResource, bytes: u64) -> u64 {
    share.0.connection().sent(bytes)
}

/// The bytes that may wait.
#[rustler::nif]
fn client_connection_waiting(share: &ShareResource) -> u64 {
    share.0.connection().waiting()
}

/// So many frames wait: the bytes that these are.
#[rustler::nif]
fn client_connection_seen(share: &ShareResource, frames: u64) -> u64 {
    share.0.connection().seen(frames)
}

/// How many requests of the connection are unfinished.
#[rustler::nif]
fn client_connection_unfinished(share: &ShareResource) -> u32 {
    share.0.connection().unfinished()
}
