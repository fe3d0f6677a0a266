//! NIFs that list what the relay holds. They run on a dirty scheduler.

use crate::decode::Name;
use crate::relay::RelayResource;
use crate::relay_terms::{page_or_refusal, Kind, StatusAtom};
use gen_api_core::relay::Origin;
use rustler::{Encoder, Env, Term};

/// Some members: `{type, [{user, status, admin?, joined_ms, devices}], next}` or why not. Dirty
/// CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_page<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: Name<'_>,
    start: usize,
    count: usize,
) -> Term<'a> {
    let page = relay.0.page(&id, start, count);
    let kind = |env, origin: &Origin| Kind(origin.kind).encode(env);
    page_or_refusal(env, page, kind, |env, row| {
        let status = StatusAtom(row.status);
        (&*row.user, status, row.admin, row.joined_ms, row.devices).encode(env)
    })
}

/// `[{group, status}]` of a user. Dirty CPU scheduler: it waits for each group in turn.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_groups_of<'a>(env: Env<'a>, relay: &RelayResource, user: Name<'_>) -> Term<'a> {
    let groups = relay.0.groups_of(&user);
    let groups: Vec<(&str, StatusAtom)> = groups
        .iter()
        .map(|(group, status)| (&**group, StatusAtom(*status)))
        .collect();
    groups.encode(env)
}

/// `{groups, members, users, devices, bytes}`. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_size(relay: &RelayResource) -> (usize, usize, usize, usize, usize) {
    let size = relay.0.size();
    (
        size.groups,
        size.members,
        size.users,
        size.devices,
        size.bytes,
    )
}
