//! Groups that two nodes hold: what one decides the other copies, and what both made of a group
//! on their own they unite to the same.

use super::{device, recipients};
use gen_api_core::relay::Command::{Create, Join, Leave, LeaveIfOffline, Moderate};
use gen_api_core::relay::{
    Bounds, Command, Created, GroupType, MemberFlags, Merged, Moderation, Origin, Record, Refusal,
    Relay, Row, Status,
};
use proptest::prelude::*;

const NODE: u32 = 3;

fn empty() -> Relay<u64> {
    Relay::new(Bounds::default())
}

fn created(ms: u64) -> Created {
    Created { ms, by: 7 }
}

fn rows(relay: &Relay<u64>) -> Vec<Row> {
    let page = relay.page("g", 0, 1_000);
    let mut rows = page.map(|page| page.rows).unwrap_or_default();
    rows.sort_by(|a, b| a.user.cmp(&b.user));
    rows
}

/// Everything but the devices, which each node has for itself.
fn view(relay: &Relay<u64>) -> Vec<(Box<str>, Status, bool, u64)> {
    let rows = rows(relay).into_iter();
    rows.map(|row| (row.user, row.status, row.admin, row.joined_ms))
        .collect()
}

fn tell(from: &Relay<u64>, to: &Relay<u64>, apart: bool) -> Merged {
    let page = from.records("g", 0, usize::MAX).unwrap();
    to.merge("g", page.origin, NODE, apart, &page.rows)
}

/// Both tell what they had before they were told anything.
fn unite(a: &Relay<u64>, b: &Relay<u64>) {
    let of_a = a.records("g", 0, usize::MAX).unwrap();
    tell(b, a, true);
    b.merge("g", of_a.origin, NODE, true, &of_a.rows);
}

fn create(kind: GroupType, user: &str, ms: u64) -> Command<'_> {
    let created = created(ms);
    Create {
        kind,
        user,
        created,
    }
}

fn by_root(moderation: Moderation, target: &str) -> Command<'_> {
    Moderate {
        moderation,
        actor: "root",
        target,
    }
}

fn join(relay: &Relay<u64>, user: &str, now: u64) -> Result<Status, Refusal> {
    let (_origin, record) = relay.decide("g", Join { user }, now)?;
    Ok(record.flags.status().unwrap())
}

/// A strict private group of root, on two nodes; ann and max are active, pat is pending.
fn pair() -> (Relay<u64>, Relay<u64>) {
    let (a, b) = (empty(), empty());
    a.decide("g", create(GroupType::StrictPrivate, "root", 1), 0)
        .unwrap();
    for user in ["ann", "max", "pat"] {
        a.decide("g", Join { user }, 2).unwrap();
    }
    for user in ["ann", "max"] {
        a.decide("g", by_root(Moderation::Accept, user), 3).unwrap();
    }
    tell(&a, &b, false);
    (a, b)
}

fn status(relay: &Relay<u64>, user: &str) -> Option<Status> {
    let rows = rows(relay).into_iter();
    rows.filter(|row| &*row.user == user)
        .map(|row| row.status)
        .next()
}

#[test]
fn a_group_without_members_is_copied_by_a_record_of_nobody() {
    let (a, b) = (empty(), empty());
    a.set_shared(true);
    a.ensure("g", GroupType::Private, &["ann"], created(5), true)
        .unwrap();
    for user in ["", "ann"] {
        let (origin, record) = a.record_of("g", user).unwrap();
        b.put("g", origin, &record, false);
    }
    assert_eq!(a.records("g", 0, 9), b.records("g", 0, 9));
    assert_eq!(b.records("g", 0, 9).unwrap().rows.len(), 1);
    b.decide("g", Join { user: "ann" }, 6).unwrap();
    assert!(rows(&b)[0].admin);
    b.verify();
}

#[test]
fn what_one_node_decides_the_other_copies() {
    let (a, b) = pair();
    assert_eq!(view(&a), view(&b));
    let (origin, record) = a.decide("g", by_root(Moderation::Mute, "ann"), 4).unwrap();
    b.put("g", origin, &record, false);
    assert_eq!(status(&b, "ann"), Some(Status::Muted));
    // An older record that comes late changes nothing.
    let old = Record {
        version: record.version - 1,
        flags: MemberFlags::IN_GROUP,
        ..record
    };
    b.put("g", origin, &old, false);
    assert_eq!(status(&b, "ann"), Some(Status::Muted));
    let (origin, record) = a.decide("g", Leave { user: "pat" }, 5).unwrap();
    assert_eq!(record.flags, MemberFlags::default());
    b.put("g", origin, &record, true);
    assert_eq!(view(&a), view(&b));
    a.verify();
    b.verify();
}

#[test]
fn a_copy_of_somebody_who_may_come_back_ends_with_his_time() {
    let (a, b) = (empty(), empty());
    let bounds = Bounds {
        grace_ms: 100,
        ..Bounds::default()
    };
    a.set_bounds(bounds);
    a.decide("g", create(GroupType::Private, "root", 1), 0)
        .unwrap();
    for user in ["ann", "bob", "max"] {
        a.decide("g", Join { user }, 2).unwrap();
        a.decide("g", by_root(Moderation::Accept, user), 3).unwrap();
    }
    tell(&a, &b, false);
    for (user, at) in [("ann", 1_000), ("bob", 1_050)] {
        let (origin, record) = a
            .decide("g", LeaveIfOffline { user, died: true }, at)
            .unwrap();
        b.put("g", origin, &record, false);
    }
    // Without the node that decided so far, and without anything having happened there.
    let join = |user, at| join(&b, user, at);
    assert_eq!(join("ann", 1_120), Ok(Status::Pending));
    assert_eq!(join("bob", 1_120), Ok(Status::Active));
    // What another node decides later also ends what is over.
    let (origin, record) = a
        .decide(
            "g",
            LeaveIfOffline {
                user: "max",
                died: true,
            },
            2_000,
        )
        .unwrap();
    b.put("g", origin, &record, false);
    b.decide("g", Leave { user: "bob" }, 2_001).unwrap();
    assert_eq!(b.size().users, 3);
    b.put(
        "g",
        Origin {
            changed_ms: 2_200,
            ..origin
        },
        &record,
        false,
    );
    assert_eq!(join("max", 2_201), Ok(Status::Pending));
    b.verify();
}

#[test]
fn a_group_changes_when_somebody_leaves_and_not_when_his_node_is_lost() {
    let a = empty();
    a.decide("g", create(GroupType::Public, "root", 1), 0)
        .unwrap();
    for user in ["ann", "bob"] {
        a.decide("g", Join { user }, 2).unwrap();
    }
    let lost = LeaveIfOffline {
        user: "ann",
        died: true,
    };
    let (origin, _record) = a.decide("g", lost, 1_000).unwrap();
    assert_eq!(origin.changed_ms, 2);
    let (origin, _record) = a.decide("g", Leave { user: "bob" }, 1_001).unwrap();
    assert_eq!(origin.changed_ms, 1_001);
}

#[test]
fn who_is_in_on_one_side_of_a_split_has_no_grace_left_of_the_other() {
    let (a, b) = pair();
    let bounds = Bounds {
        grace_ms: 100,
        ..Bounds::default()
    };
    b.set_bounds(bounds);
    b.decide(
        "g",
        LeaveIfOffline {
            user: "ann",
            died: true,
        },
        1_000,
    )
    .unwrap();
    unite(&a, &b);
    assert_eq!(view(&a), view(&b));
    assert_eq!(status(&a, "ann"), Some(Status::Active));
    a.decide("g", Leave { user: "ann" }, 1_001).unwrap();
    let rejoined = join(&a, "ann", 1_002);
    assert_eq!(rejoined, Ok(Status::Pending));
}

#[test]
fn changes_that_no_leader_decides_on_are_refused_while_groups_are_shared() {
    let (a, _) = pair();
    a.set_shared(true);
    assert_eq!(a.join("g", "ann", device(1), 0), Err(Refusal::Shared));
    assert_eq!(a.leave("g", "ann", 0), Err(Refusal::Shared));
    assert_eq!(a.delete("g"), Err(Refusal::Shared));
    let change = a.moderate("g", Moderation::Mute, "root", "ann", 0);
    assert_eq!(change, Err(Refusal::Shared));
    assert_eq!(a.join("none", "ann", device(1), 0), Err(Refusal::Shared));
    assert_eq!(a.delete("none"), Err(Refusal::Shared));
    assert_eq!(a.decide_delete("none"), Err(Refusal::NotFound));
    let new = a.create("h", GroupType::Public, "ann", device(1), created(0));
    assert_eq!(new, Err(Refusal::Shared));
    assert_eq!(a.size().groups, 1);
    assert_eq!(
        a.decide("h", create(GroupType::Public, "ann", 0), 0)
            .map(drop),
        Ok(())
    );
}

#[test]
fn a_member_stays_until_no_node_has_a_device_of_his() {
    let (a, _) = pair();
    a.set_shared(true);
    assert_eq!(a.attach("g", "ann", device(1)), Ok(true));
    assert_eq!(a.attach("g", "ann", device(1)), Err(Refusal::AlreadyMember));
    assert_eq!(a.attach("g", "zoe", device(1)), Err(Refusal::NotInGroup));
    a.set_remote("g", "ann", NODE, true);
    let fan = a.fan_out("g").unwrap();
    assert_eq!((recipients(&fan), fan.remote), (vec![1_001], 1 << NODE));
    let left = a.remove_device(1, 5);
    assert_eq!(left.len(), 1);
    assert!(left[0].last && left[0].stays && left[0].elsewhere);
    let depart = || {
        a.decide(
            "g",
            LeaveIfOffline {
                user: "ann",
                died: true,
            },
            6,
        )
        .map(|(_, record)| record.flags)
    };
    assert_eq!(depart(), Err(Refusal::AlreadyMember));
    a.set_remote("g", "ann", NODE, false);
    assert_eq!(a.fan_out("g").unwrap().remote, 0);
    assert_eq!(a.attach("g", "ann", device(2)), Ok(true));
    let left = a.remove_device(2, 5);
    assert!(left[0].last && left[0].stays && !left[0].elsewhere);
    assert_eq!(depart(), Ok(MemberFlags::default()));
    assert_eq!(depart(), Err(Refusal::NotInGroup));
}

#[test]
fn the_end_of_a_node_leaves_those_absent_who_were_only_there() {
    let (a, _) = pair();
    for user in ["ann", "max"] {
        a.set_remote("g", user, NODE, true);
    }
    a.attach("g", "max", device(1)).unwrap();
    a.attach("g", "root", device(2)).unwrap();
    a.set_remote("g", "pat", NODE + 1, true);
    assert_eq!(a.offline_members("g", !(1 << NODE)), [("ann".into(), true)]);
    assert_eq!(
        a.offline_members("g", !(1 << NODE)),
        [("ann".into(), false)]
    );
    assert_eq!(a.fan_out("g").unwrap().remote, 1 << (NODE + 1));
}

#[test]
fn muted_beats_active_beats_pending_and_a_ban_beats_them_all() {
    let (a, b) = pair();
    a.decide("g", by_root(Moderation::Mute, "ann"), 5).unwrap();
    b.decide("g", by_root(Moderation::Accept, "pat"), 5)
        .unwrap();
    b.decide("g", by_root(Moderation::Ban, "max"), 5).unwrap();
    a.attach("g", "max", device(1)).unwrap();
    a.decide("g", Join { user: "left" }, 6).unwrap();
    b.decide("g", Join { user: "right" }, 7).unwrap();
    unite(&a, &b);
    for relay in [&a, &b] {
        assert_eq!(status(relay, "ann"), Some(Status::Muted));
        assert_eq!(status(relay, "pat"), Some(Status::Active));
        assert_eq!(status(relay, "max"), None);
        assert_eq!(status(relay, "left"), Some(Status::Pending));
        assert_eq!(status(relay, "right"), Some(Status::Pending));
        let again = relay.decide("g", Join { user: "max" }, 8).map(drop);
        assert_eq!(again, Err(Refusal::Banned));
        relay.verify();
    }
    assert!(recipients(&a.fan_out("g").unwrap()).is_empty());
    assert_eq!(view(&a), view(&b));
}

#[test]
fn what_is_decided_after_a_split_counts_where_two_of_the_other_side_were_united_with() {
    let (a, b) = pair();
    let c = empty();
    tell(&b, &c, false);
    // Both of the other side know the same.
    a.decide("g", by_root(Moderation::Mute, "ann"), 4).unwrap();
    let (of_a, of_b) = (
        a.records("g", 0, usize::MAX).unwrap(),
        b.records("g", 0, usize::MAX).unwrap(),
    );
    for node in [NODE, NODE + 1] {
        a.merge("g", of_b.origin, node, true, &of_b.rows);
    }
    for relay in [&b, &c] {
        relay.merge("g", of_a.origin, NODE, true, &of_a.rows);
    }
    let (origin, record) = b
        .decide("g", by_root(Moderation::Unmute, "ann"), 5)
        .unwrap();
    for relay in [&a, &c] {
        relay.put("g", origin, &record, false);
    }
    for relay in [&a, &b, &c] {
        assert_eq!(status(relay, "ann"), Some(Status::Active));
    }
}

#[test]
fn what_was_forgotten_is_not_learnt_again_of_a_node_that_missed_it() {
    let (a, b) = pair();
    for user in ["ann", "max"] {
        let (origin, record) = a.decide("g", by_root(Moderation::Ban, user), 4).unwrap();
        b.put("g", origin, &record, true);
    }
    a.decide("g", by_root(Moderation::Unban, "ann"), 5).unwrap();
    let merged = tell(&b, &a, false);
    tell(&a, &b, false);
    let users: Vec<&str> = merged.forgotten.iter().map(|r| &*r.user).collect();
    assert_eq!(users, ["ann"]);
    let page = a.records("g", 0, 1).unwrap();
    b.put("g", page.origin, &merged.forgotten[0], false);
    for relay in [&a, &b] {
        let join = |user| join(relay, user, 6);
        assert_eq!(join("ann"), Ok(Status::Pending));
        assert_eq!(join("max"), Err(Refusal::Banned));
        relay.verify();
    }
    // After a split it is as new as anything.
    let (origin, record) = a.decide("g", Leave { user: "ann" }, 7).unwrap();
    b.put("g", origin, &record, true);
    b.decide("g", by_root(Moderation::Ban, "ann"), 8).unwrap();
    tell(&b, &a, true);
    assert_eq!(
        a.decide("g", Join { user: "ann" }, 9).map(drop),
        Err(Refusal::Banned)
    );
}

#[test]
fn of_two_creations_the_older_ones_type_and_admins_win() {
    for younger_tells_first in [true, false] {
        let (a, b) = (empty(), empty());
        a.decide("g", create(GroupType::Private, "one", 1), 0)
            .unwrap();
        b.decide("g", create(GroupType::Public, "two", 2), 0)
            .unwrap();
        if younger_tells_first {
            unite(&a, &b);
        } else {
            unite(&b, &a);
        }
        for relay in [&a, &b] {
            assert_eq!(relay.origin("g"), Ok((GroupType::Private, created(1))));
            let admins: Vec<_> = rows(relay).iter().map(|row| row.admin).collect();
            assert_eq!(admins, [true, false]);
            relay.verify();
        }
        assert_eq!(view(&a), view(&b));
    }
}

fn change() -> impl Strategy<Value = (u8, u8, u8)> {
    (0..11u8, 0..6u8, 0..6u8)
}

fn apply(relay: &Relay<u64>, (what, actor, target): (u8, u8, u8), now: u64) {
    let name = |user: u8| ["root", "ann", "max", "pat", "zoe", "eve"][usize::from(user)];
    let verbs = [
        Moderation::Accept,
        Moderation::Mute,
        Moderation::Unmute,
        Moderation::Kick,
        Moderation::Ban,
        Moderation::Unban,
        Moderation::Promote,
        Moderation::Demote,
    ];
    match verbs.get(usize::from(what)) {
        Some(verb) => {
            // Mostly by somebody who may.
            let actor = if actor < 4 { "root" } else { name(actor) };
            let _ = relay.decide(
                "g",
                Moderate {
                    moderation: *verb,
                    actor,
                    target: name(target),
                },
                now,
            );
        }
        None if what < 10 => {
            let _ = relay.decide("g", Join { user: name(target) }, now);
        }
        None => {
            let _ = relay.decide("g", Leave { user: name(target) }, now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_both_sides_did_they_unite_to_the_same_and_go_on_as_one(
        left in prop::collection::vec(change(), 0..20),
        right in prop::collection::vec(change(), 0..20),
        after in prop::collection::vec(change(), 0..10),
        decides in 0..4usize,
    ) {
        // Two nodes on each side.
        let (a, b) = pair();
        for (now, op) in (10..).zip(left) {
            apply(&a, op, now);
        }
        for (now, op) in (10..).zip(right) {
            apply(&b, op, now);
        }
        let (also_a, also_b) = (empty(), empty());
        tell(&a, &also_a, false);
        tell(&b, &also_b, false);
        let relays = [&a, &also_a, &b, &also_b];
        let before = relays.map(|relay| relay.records("g", 0, usize::MAX).unwrap());
        for (n, relay) in relays.into_iter().enumerate() {
            for (other, page) in (0..).zip(&before) {
                if (n < 2) != (other < 2) {
                    relay.merge("g", page.origin, other, true, &page.rows);
                }
            }
            relay.verify();
            prop_assert_eq!(view(relay), view(&a));
        }
        // What one decides from now on counts everywhere.
        let home = relays[decides];
        for (now, op) in (100..).zip(after) {
            apply(home, op, now);
        }
        let page = home.records("g", 0, usize::MAX).unwrap();
        for relay in relays {
            for (record, _) in &page.rows {
                relay.put("g", page.origin, record, false);
            }
            let (decided, copied) = (view(home), view(relay));
            prop_assert!(decided.iter().all(|member| copied.contains(member)), "{:?} {:?}", decided, copied);
        }
    }
}
