use std::sync::{Arc, Mutex};

use gen_api_core::clock::Nanos;
use gen_api_core::relay::Command::{Create, Join, Leave, LeaveIfOffline};
use gen_api_core::relay::{
    Bounds, Created, Device, FanOut, GroupType, MemberFlags, Moderation, Origin, Record, Refusal,
    Relay, Status,
};

use super::{explore, race};

const NOW: Nanos = Nanos::ZERO;

/// Groups of users, each with a device: `root` and `bob` are the admins of `g`, `ann` is a member.
struct World {
    relay: Relay<u64>,
    // Messages, and to whom they went by a look at once.
    sent: Mutex<Vec<(FanOut<u64>, Vec<u64>)>>,
}

const ROOT: u64 = 1;
const BOB: u64 = 2;
const ANN: u64 = 3;
const CAT: u64 = 4;

fn device(id: u64) -> Device<'static, u64> {
    let lane: &[u8] = if id == ANN { b"odd" } else { b"" };
    Device { id, to: id, lane }
}

fn bounds() -> Bounds {
    Bounds {
        groups: 2,
        ..Bounds::default()
    }
}

impl World {
    fn empty(bounds: Bounds) -> Self {
        Self {
            relay: Relay::new(bounds),
            sent: Mutex::default(),
        }
    }

    fn new() -> Self {
        Self::with(bounds())
    }

    fn with(bounds: Bounds) -> Self {
        let world = Self::empty(bounds);
        world.create("g", "root", ROOT).unwrap();
        world.join("g", "bob", BOB).unwrap();
        world.join("g", "ann", ANN).unwrap();
        world.moderate(Moderation::Promote, "root", "bob").unwrap();
        world
    }

    fn create(&self, id: &str, user: &str, of: u64) -> Result<bool, Refusal> {
        let created = Created { ms: 1, by: of };
        let kind = GroupType::Public;
        self.relay.create(id, kind, user, device(of), created)
    }

    /// Whether nobody monitors the device yet.
    fn join(&self, id: &str, user: &str, of: u64) -> Result<bool, Refusal> {
        let joined = self.relay.join(id, user, device(of), 1)?;
        Ok(joined.unmonitored)
    }

    fn moderate(&self, moderation: Moderation, actor: &str, target: &str) -> Result<(), Refusal> {
        self.relay.moderate("g", moderation, actor, target, 1)
    }

    fn members(&self, id: &str) -> Vec<(Box<str>, bool, usize)> {
        let page = self.relay.page(id, 0, usize::MAX);
        let rows = page.map_or_else(|_| Vec::new(), |page| page.rows);
        let mut members: Vec<_> = rows
            .into_iter()
            .map(|row| (row.user, row.admin, row.devices))
            .collect();
        members.sort_unstable();
        members
    }

    fn groups_of(&self, user: &str) -> Vec<(Box<str>, Status)> {
        let mut groups = self.relay.groups_of(user);
        groups.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        groups
    }

    fn receiving(&self, id: &str) -> Vec<u64> {
        let fan = self.relay.fan_out(id);
        fan.map_or_else(|_| Vec::new(), |fan| recipients(&fan))
    }

    /// All that can be seen of it.
    fn picture(&self) -> String {
        self.relay.verify();
        let size = self.relay.size();
        let mut ids = self.relay.ids();
        ids.sort_unstable();
        let groups: Vec<_> = ids
            .iter()
            .map(|id| (id, self.members(id), self.receiving(id)))
            .collect();
        let of_users = ["root", "bob", "ann", "cat"].map(|user| self.groups_of(user));
        let counts = (size.groups, size.members, size.users, size.devices);
        format!("{groups:?} {of_users:?} {counts:?}")
    }
}

fn recipients(fan: &FanOut<u64>) -> Vec<u64> {
    let slice = fan.recipients.slice(0, usize::MAX);
    let mut to: Vec<u64> = slice.map(|recipient| recipient.to).collect();
    to.sort_unstable();
    to
}

type Work = fn(&World) -> String;

fn said<T: std::fmt::Debug>(outcome: T) -> String {
    format!("{outcome:?}")
}

/// What is done at once is done one after the other, in some order: all say what they say in that order, and the
/// same is left.
fn explore_works<const N: usize>(make: fn() -> World, works: [Work; N]) {
    let orders = Arc::new(Mutex::new(Vec::new()));
    let known = Arc::clone(&orders);
    // A model of its own, as loom's locks live in models only.
    explore(move || {
        let outcomes = permutations(N).into_iter().map(|order| {
            let world = make();
            let mut said = works.map(|_| String::new());
            for n in order {
                said[n] = works[n](&world);
            }
            (said, world.picture())
        });
        *known.lock().unwrap() = outcomes.collect();
    });
    let orders = orders.lock().unwrap().clone();
    explore(move || {
        let world = Arc::new(make());
        let said = race(&world, works);
        let outcome = (said, world.picture());
        assert!(
            orders.contains(&outcome),
            "{outcome:#?}\nis none of {orders:#?}"
        );
    });
}

fn permutations(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else {
        return vec![Vec::new()];
    };
    let shorter = permutations(last).into_iter();
    let with_last = |order: Vec<usize>| {
        (0..count).map(move |at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    };
    shorter.flat_map(with_last).collect()
}

/// Each of these with itself and each other one.
fn explore_pairs(make: fn() -> World, works: &[Work]) {
    for (n, one) in works.iter().enumerate() {
        for other in &works[n..] {
            explore_works(make, [*one, *other]);
        }
    }
}

/// Each three of these.
fn explore_threes(make: fn() -> World, works: &[Work]) {
    for (n, one) in works.iter().enumerate() {
        for (m, other) in works.iter().enumerate().skip(n) {
            for third in &works[m..] {
                explore_works(make, [*one, *other, *third]);
            }
        }
    }
}

const JOIN: Work = |w| said(w.join("g", "cat", CAT));
const JOIN_TWICE: Work = |w| said(w.join("g", "cat", 14));
const JOIN_ANEW: Work = |w| said(w.join("g", "ann", 13));
const LEAVE: Work = |w| said(w.relay.leave("g", "ann", 1));
const LEAVE_DEVICE: Work = |w| said(w.relay.leave_device("g", "ann", ANN, 1));
const END: Work = |w| said(w.relay.remove_device(ANN, 1));
const END_NEW: Work = |w| said(w.relay.remove_device(CAT, 1));
const DELETE: Work = |w| said(w.relay.delete("g"));
const CREATE: Work = |w| said(w.create("g", "ann", ANN));
const CREATE_NEW: Work = |w| said(w.create("g", "cat", CAT));
const CREATE_OTHER: Work = |w| said(w.create("h", "ann", ANN));
const CREATE_MORE: Work = |w| said(w.create("i", "cat", CAT));
const KICK: Work = |w| said(w.moderate(Moderation::Kick, "root", "ann"));
const BAN: Work = |w| said(w.moderate(Moderation::Ban, "root", "cat"));
const UNBAN: Work = |w| said(w.moderate(Moderation::Unban, "bob", "cat"));
const KICK_BOB: Work = |w| said(w.moderate(Moderation::Kick, "root", "bob"));
const KICK_ROOT: Work = |w| said(w.moderate(Moderation::Kick, "bob", "root"));
const DEMOTE_BOB: Work = |w| said(w.moderate(Moderation::Demote, "root", "bob"));
const DEMOTE_ROOT: Work = |w| said(w.moderate(Moderation::Demote, "bob", "root"));
const PROMOTE: Work = |w| said(w.moderate(Moderation::Promote, "root", "ann"));
const FAN_OUT: Work = |w| said(w.receiving("g"));
const PAGE: Work = |w| said(w.members("g"));
const GROUPS_OF: Work = |w| said(w.groups_of("ann"));
const GROUPS_OF_NEW: Work = |w| said(w.groups_of("cat"));

#[test]
fn of_any_two_operations_one_is_as_if_before_the_other() {
    let works = [
        JOIN,
        JOIN_TWICE,
        JOIN_ANEW,
        LEAVE,
        LEAVE_DEVICE,
        END,
        END_NEW,
        DELETE,
        CREATE_OTHER,
        CREATE_MORE,
        CREATE_NEW,
        KICK,
        BAN,
        UNBAN,
        PROMOTE,
        DEMOTE_BOB,
        FAN_OUT,
        PAGE,
        GROUPS_OF,
    ];
    explore_pairs(World::new, &works);
}

#[test]
fn a_user_who_comes_and_goes_with_devices_that_end_is_in_or_gone_everywhere() {
    let ways = [JOIN_ANEW, LEAVE, LEAVE_DEVICE, END, KICK, GROUPS_OF];
    explore_threes(World::new, &ways);
    let ways = [JOIN, JOIN_TWICE, END_NEW, BAN, UNBAN, FAN_OUT];
    explore_threes(World::new, &ways);
}

#[test]
fn a_group_that_is_created_and_deleted_while_users_come_and_go_is_there_or_not() {
    let ways = [DELETE, CREATE, JOIN, LEAVE, END, END_NEW];
    explore_threes(World::new, &ways);
    explore_threes(
        || World::empty(bounds()),
        &[CREATE, CREATE_NEW, DELETE, END],
    );
}

#[test]
fn who_leaves_his_last_group_while_he_enters_another_is_one_user() {
    let ways = [LEAVE, CREATE_OTHER, DELETE, END];
    explore_threes(World::new, &ways);
}

#[test]
fn a_group_that_could_not_be_created_was_nobodys() {
    let ways = [CREATE, CREATE_NEW, GROUPS_OF_NEW];
    explore_works(|| World::empty(bounds()), ways);
    let full = || {
        World::with(Bounds {
            groups: 1,
            ..bounds()
        })
    };
    explore_works(full, [CREATE_OTHER, GROUPS_OF]);
    explore_works(full, [CREATE_OTHER, CREATE_MORE, DELETE]);
}

#[test]
fn two_admins_who_turn_against_each_other_leave_one() {
    let turns = [KICK_BOB, KICK_ROOT, DEMOTE_BOB, DEMOTE_ROOT];
    explore_pairs(World::new, &turns);
    for (one, other) in [(0, 1), (2, 3), (0, 3), (1, 2)] {
        explore(move || {
            let world = Arc::new(World::new());
            race(&world, [turns[one], turns[other]]);
            let members = world.members("g");
            assert_eq!(members.iter().filter(|row| row.1).count(), 1);
        });
    }
}

#[test]
fn a_device_that_has_ended_is_out_or_left_to_whoever_is_to_watch_it() {
    for known in [false, true] {
        explore(move || {
            let world = World::new();
            if known {
                world.create("h", "cat", CAT).unwrap();
            }
            let world = Arc::new(world);
            let [unmonitored, _] = race(
                &world,
                [
                    |w: &World| w.join("g", "cat", CAT).unwrap(),
                    |w| {
                        w.relay.remove_device(CAT, 1);
                        false
                    },
                ],
            );
            let is_in = world.relay.has_local_device("g", "cat", Some(CAT));
            assert!(!is_in || unmonitored);
            // Who monitors a device that has ended hears of it at once.
            if unmonitored {
                world.relay.remove_device(CAT, 1);
            }
            assert_eq!(world.groups_of("cat"), []);
            world.relay.verify();
            assert_eq!(world.relay.size().devices, 3);
        });
    }
}

#[test]
fn no_bound_is_passed_and_none_is_used_up_by_who_was_refused() {
    let bounds = |groups, members, groups_per_user| Bounds {
        groups,
        members,
        groups_per_user,
        ..Bounds::default()
    };
    let cases: [(Bounds, [Work; 3]); 3] = [
        (
            bounds(9, 4, 9),
            [
                |w| said(w.join("g", "cat", CAT).err()),
                |w| said(w.join("g", "dan", 5).err()),
                |w| said(w.join("g", "eve", 6).err()),
            ],
        ),
        (
            bounds(2, 9, 9),
            [
                |w| said(w.create("h", "ann", ANN).err()),
                |w| said(w.create("i", "bob", BOB).err()),
                |w| said(w.create("j", "cat", CAT).err()),
            ],
        ),
        (
            bounds(9, 9, 2),
            [
                |w| said(w.create("h", "ann", ANN).err()),
                |w| said(w.create("i", "ann", ANN).err()),
                |w| said(w.create("j", "ann", ANN).err()),
            ],
        ),
    ];
    for (n, (bounds, works)) in cases.into_iter().enumerate() {
        explore(move || {
            let world = Arc::new(World::with(bounds));
            let mut refusals = race(&world, works).to_vec();
            refusals.sort_unstable();
            let refusal = ["GroupFull", "TooManyGroups", "TooManyGroups"][n];
            let refusal = said(Some(refusal)).replace('"', "");
            assert_eq!(refusals, ["None", &refusal, &refusal]);
            world.relay.verify();
        });
    }
}

#[test]
fn a_message_goes_for_good_to_those_who_were_in_when_it_was_sent() {
    let changes: [Work; 5] = [JOIN, LEAVE, KICK_BOB, END, DELETE];
    for (n, one) in changes.into_iter().enumerate() {
        for other in changes.into_iter().skip(n + 1) {
            explore(move || {
                let world = Arc::new(World::new());
                race(
                    &world,
                    [
                        |w: &World| {
                            if let Ok(fan) = w.relay.publish("g", Some("root"), NOW) {
                                let to = recipients(&fan);
                                w.sent.lock().unwrap().push((fan, to));
                            }
                            String::new()
                        },
                        one,
                        other,
                    ],
                );
                for (fan, to) in world.sent.lock().unwrap().iter() {
                    assert_eq!(recipients(fan), *to);
                    // A device each; the sender stays, and nobody else was ever in.
                    assert_eq!(fan.audience, to.len());
                    assert!(
                        to.contains(&ROOT) && to.iter().all(|to| *to <= CAT),
                        "{to:?}"
                    );
                    assert!(to.windows(2).all(|pair| pair[0] < pair[1]), "{to:?}");
                    let odd = fan.lanes.iter().any(|lane| *lane.1 == *b"odd");
                    assert_eq!(odd, to.contains(&ANN));
                }
            });
        }
    }
}

#[test]
fn messages_at_once_are_no_more_than_may_be() {
    explore(|| {
        let world = Arc::new(World::new());
        world.relay.set_message_rate(Some(1), None);
        let publish = |w: &World| w.relay.publish("g", Some("root"), NOW).is_ok();
        let sent = race(&world, [publish; 2]);
        assert_eq!(sent.iter().filter(|sent| **sent).count(), 1);
    });
}

/// What another node is told of all groups, but for devices.
fn copy(world: &World) -> String {
    let mut ids = world.relay.ids();
    ids.sort_unstable();
    let groups = ids.iter().filter_map(|id| {
        let copy = world.relay.records(id, 0, usize::MAX).ok()?;
        let records: Vec<_> = copy.rows.into_iter().map(|record| record.0).collect();
        Some((id, copy.origin, records))
    });
    said(groups.collect::<Vec<_>>())
}

#[test]
fn whoever_copies_groups_once_they_are_shared_sees_all_that_nobody_ordered() {
    let share: Work = |w| {
        w.relay.set_shared(true);
        copy(w)
    };
    let changes = [
        JOIN,
        JOIN_ANEW,
        LEAVE,
        LEAVE_DEVICE,
        END,
        DELETE,
        CREATE_OTHER,
        KICK,
        BAN,
        PROMOTE,
    ];
    for change in changes {
        explore(move || {
            let world = Arc::new(World::new());
            let [copied, _] = race(&world, [share, change]);
            assert_eq!(copied, copy(&world));
            world.relay.verify();
        });
    }
}

#[test]
fn who_is_left_to_others_to_take_out_is_said_to_be() {
    for shared in [false, true] {
        explore(move || {
            let world = World::new();
            world.relay.set_shared(shared);
            let world = Arc::new(world);
            let [stays, _] = race(
                &world,
                [
                    |w: &World| w.relay.remove_device(ANN, 1).iter().any(|left| left.stays),
                    |w| {
                        w.relay.set_shared(!w.relay.is_shared());
                        false
                    },
                ],
            );
            assert_eq!(world.groups_of("ann").len(), usize::from(stays));
        });
    }
}

#[test]
fn orders_meet_copies_devices_and_the_ends_of_nodes_as_if_before_or_after_them() {
    fn shared() -> World {
        let world = World::new();
        world.relay.set_shared(true);
        world.relay.set_remote("g", "ann", 1, true);
        world
    }
    // What another node would tell.
    fn told(flags: MemberFlags) -> (Origin, Record) {
        let origin = Origin {
            kind: GroupType::Public,
            created: Created { ms: 1, by: ROOT },
            changed_ms: 2,
        };
        let record = Record {
            user: "cat".into(),
            flags,
            version: 9,
            joined_ms: 1,
        };
        (origin, record)
    }
    let put: Work = |w| {
        let (origin, record) = told(MemberFlags::IN_GROUP);
        said(w.relay.put("g", origin, &record, false))
    };
    let evict: Work = |w| {
        let (origin, record) = told(MemberFlags::BANNED);
        said(w.relay.put("g", origin, &record, true))
    };
    let merge: Work = |w| {
        let (origin, record) = told(MemberFlags::IN_GROUP);
        said(w.relay.merge("g", origin, 2, false, &[(record, true)]))
    };
    let works: [Work; 11] = [
        put,
        evict,
        merge,
        |w| said(w.relay.decide("g", Join { user: "cat" }, 1)),
        |w| said(w.relay.attach("g", "cat", device(CAT))),
        |w| said(w.relay.detach("g", "ann", ANN)),
        |w| {
            w.relay.set_remote("g", "ann", 1, false);
            String::new()
        },
        |w| {
            said(w.relay.decide(
                "g",
                LeaveIfOffline {
                    user: "ann",
                    died: true,
                },
                1,
            ))
        },
        |w| said(w.relay.offline_members("g", !(1 << 1))),
        |w| said(w.relay.decide_delete("g")),
        END,
    ];
    explore_pairs(shared, &works);
    let works: [Work; 5] = [
        |w| {
            said(w.relay.decide(
                "g",
                Create {
                    kind: GroupType::Public,
                    user: "ann",
                    created: Created::default(),
                },
                0,
            ))
        },
        |w| said(w.relay.decide_delete("g")),
        |w| said(w.relay.decide("g", Join { user: "bob" }, 1)),
        put,
        merge,
    ];
    explore_threes(|| World::empty(bounds()), &works);
}

/// More steps than are made at a time: others come in between, and what they do counts all the same.
#[test]
fn a_group_that_is_united_or_searched_in_turns_meets_one_operation_as_if_before_or_after_it() {
    fn crowded() -> World {
        let world = World::new();
        for user in ["a", "b", "c", "d", "e", "f"] {
            world.join("g", user, CAT).unwrap();
        }
        world.relay.set_shared(true);
        world.relay.set_remote("g", "ann", 1, true);
        world.relay.detach("g", "ann", ANN).unwrap();
        world
    }
    // Of an older group, so that those who are here lose their rights.
    let merge: Work = |w| {
        let origin = Origin {
            kind: GroupType::Private,
            created: Created { ms: 0, by: 0 },
            changed_ms: 2,
        };
        let record = |user: &str| Record {
            user: user.into(),
            flags: MemberFlags::IN_GROUP,
            version: 9,
            joined_ms: 1,
        };
        let users = ["p", "q", "r", "s", "t", "u", "v", "w", "x"];
        let records = users.map(|user| (record(user), true));
        said(w.relay.merge("g", origin, 2, false, &records))
    };
    let works: [Work; 6] = [
        // How many were in it by then is for nobody to know.
        |w| said(w.relay.decide_delete("g").is_ok()),
        |w| said(w.relay.offline_members("g", !(1 << 1))),
        |w| {
            w.relay.set_remote("g", "ann", 1, false);
            String::new()
        },
        |w| said(w.relay.decide("g", Leave { user: "f" }, 1).map(|_| ())),
        |w| said(w.relay.remove_device(CAT, 1).len()),
        FAN_OUT_OF_NOBODY_LESS,
    ];
    for other in works {
        explore_works(crowded, [merge, other]);
    }
}

/// A message on the way of the union reaches everybody who was in before.
const FAN_OUT_OF_NOBODY_LESS: Work = |w| {
    let to = w.receiving("g");
    said([ROOT, BOB, CAT].iter().all(|device| to.contains(device)))
};
