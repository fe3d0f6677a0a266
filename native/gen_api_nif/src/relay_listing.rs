//! NIFs that list what the relay holds. They run on a dirty scheduler.

use crate::relay::RelayResource;
use crate::relay_terms::{refused, Kind, StatusAtom};
use rustler::{Encoder, Env, Term};

/// Some members: `{type, [{user, status, admin?, joined_ms, devices}], next}` or why not. Dirty
/// CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_page<'a>(
    env: Env<'a>,
    relay: &RelayResource,
    id: &str,
    start: usize,
    count: usize,
) -> Term<'a> {
    match relay.0.page(id, start, count) {
        Err(refusal) => refused(env, refusal),
        Ok(page) => {
            let rows: Vec<Term> = page
                .rows
                .iter()
                .map(|row| {
                    let status = StatusAtom(row.status);
                    (&*row.user, status, row.admin, row.joined_ms, row.devices).encode(env)
                })
                .collect();
            (Kind(page.kind), rows, page.next).encode(env)
        }
    }
}

/// `[{group, status}]` of a user. Dirty CPU scheduler: it waits for each group in turn.
#[rustler::nif(schedule = "DirtyCpu")]
fn relay_groups_of<'a>(env: Env<'a>, relay: &RelayResource, user: &str) -> Term<'a> {
    let groups = relay.0.groups_of(user);
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
