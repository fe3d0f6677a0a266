//! What takes long in a large group: others have their turn in between, which shows in that they
//! see it half done.

use gen_api_core::relay::{Bounds, Created, Device, GroupType, MemberFlags, Origin, Record, Relay};
use std::sync::atomic::{AtomicBool, Ordering};

const MEMBERS: u64 = 50_000;

fn relay(members: u64) -> Relay<u64> {
    let relay = Relay::new(Bounds {
        members: usize::MAX,
        ..Bounds::default()
    });
    let device = |id| Device {
        id,
        to: id,
        lane: b"",
    };
    relay
        .create(
            "g",
            GroupType::Public,
            "root",
            device(0),
            Created::default(),
        )
        .unwrap();
    for n in 1..=members {
        relay.join("g", &format!("user-{n}"), device(n), 0).unwrap();
    }
    relay
}

/// Whether somebody who looks all the time has seen it while it was done.
fn seen(half_done: impl Fn() -> bool + Sync, act: impl FnOnce()) -> bool {
    let (looking, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut seen = false;
            while !stop.load(Ordering::Relaxed) {
                seen |= half_done();
                looking.store(true, Ordering::Relaxed);
            }
            seen
        });
        while !looking.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        act();
        stop.store(true, Ordering::Relaxed);
        looker.join().unwrap()
    })
}

/// A busy machine may not let anybody look in time; somebody has to in one of many rounds.
fn in_one_of_many(round: impl Fn() -> bool) -> bool {
    (0..200).any(|_| round())
}

#[test]
fn others_have_their_turn_while_a_group_is_united_with_what_another_node_knows() {
    let origin = Origin {
        kind: GroupType::Public,
        created: Created::default(),
        changed_ms: 0,
    };
    let record = |n| Record {
        user: format!("user-{n}").into(),
        flags: MemberFlags::IN_GROUP,
        version: 1,
        joined_ms: 0,
    };
    let records: Vec<(Record, bool)> = (1..=MEMBERS).map(|n| (record(n), true)).collect();
    assert!(in_one_of_many(|| {
        let relay = relay(0);
        let audience = || relay.fan_out("g").unwrap().audience as u64;
        let unite = || assert!(relay.merge("g", origin, 1, false, &records).out.is_empty());
        let half = seen(|| (2..=MEMBERS).contains(&audience()), unite);
        assert_eq!(audience(), MEMBERS + 1);
        half
    }));
}

#[test]
fn others_have_their_turn_while_those_who_are_nowhere_are_looked_for() {
    let relay = relay(MEMBERS);
    assert!(in_one_of_many(|| {
        for n in 1..=MEMBERS {
            let node = if n < MEMBERS / 2 { 1 } else { 2 };
            relay.set_remote("g", &format!("user-{n}"), node, true);
        }
        let only_the_second = || relay.fan_out("g").unwrap().remote == 1 << 2;
        seen(only_the_second, || {
            assert!(relay.offline_members("g", 0).is_empty())
        })
    }));
}

#[test]
fn nobody_waits_for_the_end_of_a_group() {
    assert!(in_one_of_many(|| {
        let relay = relay(MEMBERS);
        let last = format!("user-{MEMBERS}");
        // Who is in the group is asked under its lock.
        let left = || relay.groups_of(&last).is_empty() && relay.size().users > 1_000;
        let delete = || assert_eq!(relay.delete("g"), Ok(MEMBERS as usize + 1));
        let half = seen(left, delete);
        assert_eq!(relay.size().users, 0);
        half
    }));
}
