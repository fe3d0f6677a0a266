//! One test for each cell of the permission matrix of the documentation, through the operations.

use super::{device, recipients};
use gen_api_core::clock::Nanos;
use gen_api_core::relay::{Bounds, Created, GroupType, Moderation, Refusal, Relay, Status};
use GroupType::{Private, Public, StrictPrivate};
use Moderation::{Accept, Ban, Demote, Kick, Mute, Promote, Unban, Unmute};

/// A group of root (admin, device 0) with an active ann (2) and, where people wait, a pending
/// pat (4); in a strict private one a muted max (6).
fn group(kind: GroupType) -> Relay<u64> {
    let relay = Relay::new(Bounds::default());
    relay
        .create("g", kind, "root", device(0), Created::default())
        .unwrap();
    for (user, id) in [("ann", 2), ("pat", 4), ("max", 6)] {
        relay.join("g", user, device(id), 0).unwrap();
    }
    if kind != Public {
        for user in ["ann", "max"] {
            relay.moderate("g", Accept, "root", user, 0).unwrap();
        }
    }
    if kind == StrictPrivate {
        relay.moderate("g", Mute, "root", "max", 0).unwrap();
    }
    relay
}

fn joins_as(kind: GroupType) -> Status {
    group(kind).join("g", "new", device(8), 0).unwrap().status
}

fn send(kind: GroupType, user: &str) -> Result<(), Refusal> {
    group(kind).publish("g", Some(user), Nanos::ZERO).map(drop)
}

fn receivers(kind: GroupType) -> Vec<u64> {
    recipients(&group(kind).publish("g", Some("root"), Nanos::ZERO).unwrap())
}

fn moderate(
    kind: GroupType,
    moderation: Moderation,
    actor: &str,
    target: &str,
) -> Result<(), Refusal> {
    group(kind).moderate("g", moderation, actor, target, 0)
}

#[test]
fn who_joins_a_public_group_is_active() {
    assert_eq!(joins_as(Public), Status::Active);
}

#[test]
fn who_joins_a_private_group_is_pending() {
    assert_eq!(joins_as(Private), Status::Pending);
}

#[test]
fn who_joins_a_strict_private_group_is_pending() {
    assert_eq!(joins_as(StrictPrivate), Status::Pending);
}

#[test]
fn nobody_is_pending_in_a_public_group() {
    assert_eq!(
        moderate(Public, Accept, "root", "pat"),
        Err(Refusal::NotPending)
    );
}

#[test]
fn any_active_member_of_a_private_group_accepts() {
    assert_eq!(moderate(Private, Accept, "ann", "pat"), Ok(()));
    assert_eq!(
        moderate(Private, Accept, "pat", "pat"),
        Err(Refusal::NotAdmin)
    );
    assert_eq!(
        moderate(Private, Accept, "zoe", "pat"),
        Err(Refusal::NotInGroup)
    );
}

#[test]
fn only_active_admins_of_a_strict_private_group_accept() {
    assert_eq!(moderate(StrictPrivate, Accept, "root", "pat"), Ok(()));
    for actor in ["ann", "pat", "max"] {
        assert_eq!(
            moderate(StrictPrivate, Accept, actor, "pat"),
            Err(Refusal::NotAdmin)
        );
    }
}

#[test]
fn everybody_in_a_public_group_sends() {
    assert_eq!(send(Public, "pat"), Ok(()));
    assert_eq!(send(Public, "zoe"), Err(Refusal::NotInGroup));
}

#[test]
fn active_members_of_a_private_group_send() {
    assert_eq!(send(Private, "ann"), Ok(()));
    assert_eq!(send(Private, "pat"), Err(Refusal::Pending));
}

#[test]
fn active_members_of_a_strict_private_group_send() {
    assert_eq!(send(StrictPrivate, "ann"), Ok(()));
    assert_eq!(send(StrictPrivate, "pat"), Err(Refusal::Pending));
    assert_eq!(send(StrictPrivate, "max"), Err(Refusal::Muted));
}

#[test]
fn everybody_in_a_public_group_receives() {
    assert_eq!(receivers(Public), [1_000, 1_002, 1_004, 1_006]);
}

#[test]
fn active_members_of_a_private_group_receive() {
    assert_eq!(receivers(Private), [1_000, 1_002, 1_006]);
}

#[test]
fn active_and_muted_members_of_a_strict_private_group_receive() {
    assert_eq!(receivers(StrictPrivate), [1_000, 1_002, 1_006]);
}

#[test]
fn nobody_mutes_in_a_public_or_private_group() {
    for kind in [Public, Private] {
        for verb in [Mute, Unmute] {
            assert_eq!(
                moderate(kind, verb, "root", "ann"),
                Err(Refusal::NotStrictPrivate)
            );
        }
    }
}

#[test]
fn only_active_admins_of_a_strict_private_group_mute_and_unmute() {
    assert_eq!(moderate(StrictPrivate, Mute, "root", "ann"), Ok(()));
    assert_eq!(moderate(StrictPrivate, Unmute, "root", "max"), Ok(()));
    for actor in ["ann", "pat", "max", "zoe"] {
        assert_eq!(
            moderate(StrictPrivate, Mute, actor, "ann"),
            Err(Refusal::NotAdmin)
        );
        assert_eq!(
            moderate(StrictPrivate, Unmute, actor, "max"),
            Err(Refusal::NotAdmin)
        );
    }
}

#[test]
fn only_active_admins_of_any_group_moderate() {
    for kind in [Public, Private, StrictPrivate] {
        for verb in [Kick, Ban, Promote] {
            assert_eq!(moderate(kind, verb, "root", "ann"), Ok(()));
        }
        for verb in [Kick, Ban, Unban, Promote, Demote] {
            for actor in ["ann", "zoe"] {
                assert_eq!(moderate(kind, verb, actor, "root"), Err(Refusal::NotAdmin));
            }
        }
    }
}
