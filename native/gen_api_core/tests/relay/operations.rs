//! What the documentation says of each operation.

use super::{device, recipients};
use gen_api_core::clock::Nanos;
use gen_api_core::relay::{
    Bounds, Created, Device, GroupType, Moderation, Refusal, Relay, Row, Status,
};
use Moderation::{Accept, Ban, Demote, Kick, Mute, Promote, Unban, Unmute};

fn relay(kind: GroupType) -> Relay<u64> {
    bounded(kind, Bounds::default())
}

fn bounded(kind: GroupType, bounds: Bounds) -> Relay<u64> {
    let relay = Relay::new(bounds);
    relay
        .create("g", kind, "root", device(0), Created::default())
        .unwrap();
    relay
}

fn rows(relay: &Relay<u64>) -> Vec<Row> {
    let mut rows = relay.page("g", 0, 1_000).unwrap().rows;
    rows.sort_by(|a, b| a.user.cmp(&b.user));
    rows
}

fn join(relay: &Relay<u64>, user: &str, id: u64) -> Result<Status, Refusal> {
    relay
        .join("g", user, device(id), 0)
        .map(|joined| joined.status)
}

#[test]
fn a_creator_is_an_active_admin_and_the_group_stays_without_him() {
    let relay = relay(GroupType::Private);
    let origin = relay.origin("g").unwrap();
    assert_eq!(origin, (GroupType::Private, Created::default()));
    let [root] = rows(&relay).try_into().unwrap();
    assert_eq!(
        (&*root.user, root.status, root.admin),
        ("root", Status::Active, true)
    );
    assert_eq!(relay.remove_device(0, 0).len(), 1);
    assert!(rows(&relay).is_empty());
    // Remembered: nobody has to accept them again.
    assert_eq!(join(&relay, "root", 2), Ok(Status::Active));
    assert!(rows(&relay)[0].admin);
}

#[test]
fn names_and_devices_are_taken_once() {
    let relay = relay(GroupType::Public);
    let again = relay.create("g", GroupType::Public, "ann", device(2), Created::default());
    assert_eq!(again, Err(Refusal::AlreadyExists));
    assert_eq!(join(&relay, "root", 0), Err(Refusal::AlreadyMember));
    assert_eq!(join(&relay, "root", 2), Ok(Status::Active));
    assert_eq!(relay.leave_device("g", "root", 0, 0), Ok(false));
    assert_eq!(
        relay.leave_device("g", "root", 0, 0),
        Err(Refusal::NotInGroup)
    );
    assert_eq!(relay.leave_device("g", "root", 2, 0), Ok(true));
    assert_eq!(relay.leave("g", "root", 0), Err(Refusal::NotInGroup));
}

#[test]
fn muted_users_stay_muted_and_pending_and_accepted_ones_start_over() {
    let relay = relay(GroupType::StrictPrivate);
    for (user, id) in [("pat", 2), ("ann", 4), ("max", 6)] {
        join(&relay, user, id).unwrap();
    }
    for user in ["ann", "max"] {
        relay.moderate("g", Accept, "root", user, 0).unwrap();
    }
    relay.moderate("g", Mute, "root", "max", 0).unwrap();
    for id in [2, 4, 6] {
        relay.remove_device(id, 0);
    }
    assert_eq!(
        relay.moderate("g", Unmute, "root", "max", 0),
        Err(Refusal::NotInGroup)
    );
    assert_eq!(join(&relay, "pat", 8), Ok(Status::Pending));
    assert_eq!(join(&relay, "ann", 10), Ok(Status::Pending));
    assert_eq!(join(&relay, "max", 12), Ok(Status::Muted));
}

#[test]
fn who_comes_back_within_the_grace_is_still_accepted_and_later_is_not() {
    let bounds = Bounds {
        grace_ms: 100,
        ..Bounds::default()
    };
    let relay = bounded(GroupType::Private, bounds);
    let back_at = |ann: u64, died: u64, back: u64| {
        join(&relay, "ann", ann).unwrap();
        relay.moderate("g", Accept, "root", "ann", 0).unwrap();
        relay.remove_device(ann, died);
        let status = relay
            .join("g", "ann", device(ann + 2), back)
            .unwrap()
            .status;
        relay.leave("g", "ann", back).unwrap();
        status
    };
    assert_eq!(back_at(2, 1_000, 1_099), Status::Active);
    assert_eq!(back_at(6, 2_000, 2_100), Status::Pending);
    // Leaving is not dying.
    assert_eq!(join(&relay, "ann", 10), Ok(Status::Pending));
    relay.verify();
}

#[test]
fn the_end_of_an_earlier_grace_does_not_end_a_later_one() {
    let bounds = Bounds {
        grace_ms: 100,
        ..Bounds::default()
    };
    let relay = bounded(GroupType::Private, bounds);
    join(&relay, "ann", 2).unwrap();
    relay.moderate("g", Accept, "root", "ann", 0).unwrap();
    relay.remove_device(2, 0);
    assert_eq!(
        relay.join("g", "ann", device(4), 50).unwrap().status,
        Status::Active
    );
    relay.remove_device(4, 60);
    assert_eq!(
        relay.join("g", "ann", device(6), 120).unwrap().status,
        Status::Active
    );
}

#[test]
fn full_groups_take_nobody_else_but_those_whom_they_remember() {
    let bounds = Bounds {
        members: 3,
        pending: 1,
        ..Bounds::default()
    };
    let relay = bounded(GroupType::StrictPrivate, bounds);
    assert_eq!(join(&relay, "ann", 2), Ok(Status::Pending));
    assert_eq!(join(&relay, "bob", 4), Err(Refusal::GroupFull));
    relay.moderate("g", Accept, "root", "ann", 0).unwrap();
    assert_eq!(join(&relay, "bob", 4), Ok(Status::Pending));
    relay.moderate("g", Accept, "root", "bob", 0).unwrap();
    relay.moderate("g", Mute, "root", "ann", 0).unwrap();
    relay.remove_device(2, 0);
    assert_eq!(join(&relay, "carl", 6), Err(Refusal::GroupFull));
    assert_eq!(join(&relay, "ann", 8), Ok(Status::Muted));
    relay.verify();
}

#[test]
fn there_are_no_more_groups_than_there_may_be() {
    let bounds = Bounds {
        groups: 2,
        groups_per_user: 1,
        ..Bounds::default()
    };
    let relay = bounded(GroupType::Public, bounds);
    let create = |id, user| {
        relay
            .create(id, GroupType::Public, user, device(2), Created::default())
            .map(drop)
    };
    assert_eq!(create("h", "root"), Err(Refusal::TooManyGroups));
    assert_eq!(create("h", "ann"), Ok(()));
    assert_eq!(create("i", "bob"), Err(Refusal::TooManyGroups));
    assert_eq!(join(&relay, "ann", 4), Err(Refusal::TooManyGroups));
    assert_eq!(relay.delete("h"), Ok(1));
    assert_eq!(relay.delete("h"), Err(Refusal::NotFound));
    assert_eq!(join(&relay, "ann", 4), Ok(Status::Active));
    assert_eq!(create("i", "bob"), Ok(()));
    assert_eq!(relay.len(), 2);
}

#[test]
fn a_group_is_ensured_once_and_its_admins_are_admins_when_they_join() {
    let bounds = Bounds {
        groups: 2,
        groups_per_user: 1,
        ..Bounds::default()
    };
    let relay: Relay<u64> = Relay::new(bounds);
    let ensure =
        |id, kind, admins: &[&str]| relay.ensure(id, kind, admins, Created::default(), false);
    assert_eq!(
        ensure("g", GroupType::Private, &["ann", "bob", "ann"]),
        Ok(())
    );
    assert_eq!(ensure("g", GroupType::Private, &[]), Ok(()));
    let other = ensure("g", GroupType::Public, &[]);
    assert_eq!(other, Err(Refusal::AlreadyExists));
    assert!(rows(&relay).is_empty());

    assert_eq!(join(&relay, "carl", 1), Ok(Status::Pending));
    assert_eq!(join(&relay, "ann", 2), Ok(Status::Active));
    relay.moderate("g", Accept, "ann", "carl", 0).unwrap();
    assert_eq!(
        relay.moderate("g", Demote, "ann", "ann", 0),
        Ok(()),
        "bob is an admin as well"
    );

    // Whoever is an admin has one group by now, and nothing is left of the one that is refused.
    let refused = ensure("h", GroupType::Private, &["dora", "bob"]);
    assert_eq!(refused, Err(Refusal::TooManyGroups));
    assert_eq!(ensure("h", GroupType::Private, &["dora"]), Ok(()));
    assert_eq!(
        ensure("i", GroupType::Public, &[]),
        Err(Refusal::TooManyGroups)
    );
    relay.set_shared(true);
    assert_eq!(ensure("i", GroupType::Public, &[]), Err(Refusal::Shared));
    assert_eq!(ensure("h", GroupType::Private, &[]), Ok(()));
    relay.verify();
}

#[test]
fn kicked_users_come_back_as_anybody_and_banned_ones_do_not() {
    let relay = relay(GroupType::Public);
    for (user, id) in [("ann", 2), ("bob", 4)] {
        join(&relay, user, id).unwrap();
        relay.moderate("g", Promote, "root", user, 0).unwrap();
    }
    assert_eq!(
        relay.moderate("g", Kick, "root", "root", 0),
        Err(Refusal::CannotKick)
    );
    assert_eq!(relay.moderate("g", Kick, "ann", "bob", 0), Ok(()));
    assert_eq!(
        relay.moderate("g", Kick, "ann", "bob", 0),
        Err(Refusal::NotInGroup)
    );
    assert_eq!(join(&relay, "bob", 6), Ok(Status::Active));
    assert_eq!(
        relay.moderate("g", Kick, "bob", "ann", 0),
        Err(Refusal::NotAdmin)
    );

    assert_eq!(
        relay.moderate("g", Ban, "ann", "ann", 0),
        Err(Refusal::CannotBan)
    );
    for user in ["bob", "stranger"] {
        assert_eq!(relay.moderate("g", Ban, "ann", user, 0), Ok(()));
        assert_eq!(
            relay.moderate("g", Ban, "ann", user, 0),
            Err(Refusal::AlreadyBanned)
        );
        assert_eq!(join(&relay, user, 8), Err(Refusal::Banned));
        assert_eq!(relay.moderate("g", Unban, "ann", user, 0), Ok(()));
        assert_eq!(
            relay.moderate("g", Unban, "ann", user, 0),
            Err(Refusal::NotBanned)
        );
        assert_eq!(join(&relay, user, 8), Ok(Status::Active));
    }
    relay.verify();
}

#[test]
fn the_last_admin_cannot_be_demoted() {
    let relay = relay(GroupType::StrictPrivate);
    join(&relay, "ann", 2).unwrap();
    assert_eq!(
        relay.moderate("g", Promote, "root", "ann", 0),
        Err(Refusal::CannotPromote)
    );
    relay.moderate("g", Accept, "root", "ann", 0).unwrap();
    assert_eq!(
        relay.moderate("g", Demote, "root", "ann", 0),
        Err(Refusal::CannotDemote)
    );
    assert_eq!(
        relay.moderate("g", Demote, "root", "root", 0),
        Err(Refusal::LastAdmin)
    );
    assert_eq!(relay.moderate("g", Promote, "root", "ann", 0), Ok(()));
    assert_eq!(
        relay.moderate("g", Promote, "root", "ann", 0),
        Err(Refusal::AlreadyAdmin)
    );
    assert_eq!(relay.moderate("g", Demote, "root", "root", 0), Ok(()));
    assert_eq!(
        relay.moderate("g", Demote, "ann", "ann", 0),
        Err(Refusal::LastAdmin)
    );
    assert_eq!(
        relay.moderate("g", Mute, "ann", "ann", 0),
        Err(Refusal::CannotMute)
    );
    assert_eq!(relay.moderate("g", Mute, "ann", "root", 0), Ok(()));
    assert_eq!(
        relay.moderate("g", Mute, "ann", "root", 0),
        Err(Refusal::CannotMute)
    );
    assert_eq!(relay.moderate("g", Unmute, "ann", "root", 0), Ok(()));
    assert_eq!(
        relay.moderate("g", Unmute, "ann", "root", 0),
        Err(Refusal::NotMuted)
    );
}

#[test]
fn messages_per_second_are_counted_per_group_and_per_member() {
    let relay = relay(GroupType::Public);
    join(&relay, "ann", 2).unwrap();
    relay.set_message_rate(Some(3), Some(2));
    let say = |user, millis| {
        let now = Nanos::from_millis(millis);
        relay.publish("g", Some(user), now).map(drop)
    };
    assert_eq!(say("ann", 0), Ok(()));
    assert_eq!(say("ann", 400), Ok(()));
    assert_eq!(say("ann", 900), Err(Refusal::TooFast(100)));
    assert_eq!(say("root", 900), Ok(()));
    assert_eq!(say("root", 950), Err(Refusal::TooFast(50)));
    assert_eq!(say("root", 1_000), Ok(()));
    relay.set_message_rate(None, None);
    assert_eq!(say("root", 1_000), Ok(()));
}

#[test]
fn a_message_goes_to_the_devices_of_the_moment_each_in_its_lane() {
    let relay = relay(GroupType::Public);
    for (user, id) in [("ann", 3), ("ann", 5), ("bob", 2)] {
        join(&relay, user, id).unwrap();
    }
    let fan = relay.publish("g", Some("ann"), Nanos::ZERO).unwrap();
    relay.leave("g", "ann", 0).unwrap();
    assert_eq!(fan.audience, 3);
    assert_eq!(recipients(&fan), [1_000, 1_002, 1_003, 1_005]);
    let key = |number| {
        let lane = fan.lanes.iter().find(|lane| lane.0 == number);
        lane.unwrap().1.to_vec()
    };
    for recipient in fan.recipients.slice(0, 10) {
        assert_eq!(key(recipient.lane), device(recipient.to - 1_000).lane);
    }
    let after = relay.fan_out("g").unwrap();
    assert_eq!(recipients(&after), [1_000, 1_002]);
    assert_eq!(after.lanes.len(), 1);
}

#[test]
fn devices_that_each_want_a_form_of_their_own_get_messages_themselves_beyond_64() {
    let relay = relay(GroupType::Public);
    let join = |id: u64| {
        let lane = id.to_le_bytes();
        let (to, lane) = (id + 1_000, &lane[..]);
        relay
            .join("g", &format!("user-{id}"), Device { id, to, lane }, 0)
            .unwrap();
    };
    (100..300).for_each(join);
    let fan = relay.fan_out("g").unwrap();
    assert_eq!(fan.lanes.len(), 64);
    let (direct, in_lanes): (Vec<_>, Vec<_>) =
        recipients(&fan).into_iter().partition(|to| *to < 1_000);
    assert_eq!(in_lanes.len() + direct.len(), 201);
    // The first one made the group, and uses the form of devices themselves.
    assert_eq!(in_lanes.len(), 1 + 63);
    for recipient in fan.recipients.slice(0, 300) {
        let lane = fan
            .lanes
            .iter()
            .find(|lane| lane.0 == recipient.lane)
            .unwrap();
        assert_eq!(lane.1.is_empty(), recipient.to <= 1_000);
    }
    // Whoever comes when one has gone has its place.
    relay.leave("g", "user-100", 0).unwrap();
    join(500);
    assert!(recipients(&relay.fan_out("g").unwrap()).contains(&1_500));
    relay.verify();
}

#[test]
fn a_user_has_a_thousand_devices_in_a_group_and_all_are_taken_out_with_him() {
    let relay = relay(GroupType::Public);
    for id in 1..=1_000 {
        assert_eq!(join(&relay, "ann", id), Ok(Status::Active));
    }
    assert_eq!(join(&relay, "ann", 7), Err(Refusal::AlreadyMember));
    assert_eq!(join(&relay, "ann", 1_001), Err(Refusal::TooManyDevices));
    let attached = relay.attach("g", "ann", device(1_001));
    assert_eq!(attached, Err(Refusal::TooManyDevices));
    assert_eq!(join(&relay, "bob", 1_001), Ok(Status::Active));
    relay.leave_device("g", "ann", 500, 0).unwrap();
    assert_eq!(join(&relay, "ann", 1_002), Ok(Status::Active));
    relay.verify();
    relay
        .moderate("g", Moderation::Ban, "root", "ann", 0)
        .unwrap();
    assert_eq!(recipients(&relay.fan_out("g").unwrap()), [1_000, 2_001]);
    relay.verify();
}

#[test]
fn an_empty_index_takes_no_memory_for_what_was_in_it() {
    let relay: Relay<u64> = Relay::new(Bounds::default());
    for id in 0..1_000 {
        let name = format!("g{}", id % 10);
        let created = Created::default();
        let _ = relay.create(&name, GroupType::Public, "root", device(0), created);
        relay
            .join(&name, &format!("user-{id}"), device(id + 1), 0)
            .unwrap();
    }
    assert_eq!(relay.size().members, 1_010);
    assert_eq!(relay.groups_of("root").len(), 10);
    for id in 0..1_001 {
        relay.remove_device(id, 0);
    }
    let size = relay.size();
    assert_eq!(
        (size.groups, size.members, size.users, size.devices),
        (10, 0, 1, 0)
    );
    for id in 0..10 {
        relay.delete(&format!("g{id}")).unwrap();
    }
    let size = relay.size();
    assert_eq!((size.groups, size.users), (0, 0));
    assert!(relay.groups_of("root").is_empty());
}

#[test]
fn who_did_not_come_back_in_time_keeps_no_place_from_a_stranger_who_is_banned() {
    let relay: Relay<u64> = Relay::new(Bounds {
        members: 2,
        grace_ms: 10,
        ..Bounds::default()
    });
    let kind = GroupType::Private;
    relay
        .create("g", kind, "root", device(1), Created::default())
        .unwrap();
    relay.join("g", "ann", device(2), 0).unwrap();
    relay
        .moderate("g", Moderation::Accept, "root", "ann", 0)
        .unwrap();
    relay.remove_device(2, 0);
    let ban = |now| relay.moderate("g", Moderation::Ban, "root", "cat", now);
    assert_eq!(ban(9), Err(Refusal::GroupFull));
    assert_eq!(ban(10), Ok(()));
    relay.verify();
}

#[test]
fn those_who_did_not_come_back_in_time_are_forgotten_in_the_end_and_at_once_where_their_place_is_needed(
) {
    let many = 1_000;
    let relay: Relay<u64> = Relay::new(Bounds {
        members: many + 1,
        grace_ms: 10,
        ..Bounds::default()
    });
    let kind = GroupType::Private;
    relay
        .create("g", kind, "root", device(1), Created::default())
        .unwrap();
    let dies = |n: usize, now| {
        let (user, id) = (format!("user-{n}"), n as u64 + 2);
        relay.join("g", &user, device(id), now).unwrap();
        // Refused the second time, when they are back as they were.
        let _ = relay.moderate("g", Moderation::Accept, "root", &user, now);
        relay.remove_device(id, now);
    };
    // All come back once, so that twice as many are to be looked at.
    for now in [0, 1] {
        for n in 0..many {
            dies(n, now);
        }
    }
    let join = |user: &str, now| relay.join("g", user, device(9_999), now).map(|_| ());
    assert_eq!(join("ann", 10), Err(Refusal::GroupFull));
    assert_eq!(join("ann", 11), Ok(()));
    assert_eq!(join("bob", 11), Ok(()));
    for _ in 0..many {
        relay.leave("g", "bob", 12).unwrap();
        join("bob", 12).unwrap();
    }
    assert_eq!(relay.size().users, 3);
    relay.verify();
}
