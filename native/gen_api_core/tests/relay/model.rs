//! Random sequences of operations against a model that has no index and no counts: it follows
//! the sentences of the documentation one by one.

use super::device;
use gen_api_core::clock::Nanos;
use gen_api_core::relay::{Bounds, Created, GroupType, Moderation, Refusal, Relay, Status};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const GRACE: u64 = 10;
const MEMBERS: usize = 4;
const PENDING: usize = 2;

#[derive(Clone, Debug)]
enum Op {
    Create(u8, u8, u8, u64),
    Delete(u8),
    Join(u8, u8, u64),
    Leave(u8, u8),
    LeaveDevice(u8, u8, u64),
    End(u64),
    Moderation(u8, Moderation, u8, u8),
    Publish(u8, u8),
}

fn op() -> impl Strategy<Value = Op> {
    // Few of each, and mostly one group: so that much happens to the same ones.
    let group = prop_oneof![4 => Just(0u8), 1 => Just(1u8)];
    let (user, device) = (0..5u8, 0..7u64);
    let verb = prop::sample::select(vec![
        Moderation::Accept,
        Moderation::Accept,
        Moderation::Accept,
        Moderation::Mute,
        Moderation::Mute,
        Moderation::Unmute,
        Moderation::Kick,
        Moderation::Ban,
        Moderation::Unban,
        Moderation::Promote,
        Moderation::Promote,
        Moderation::Demote,
    ]);
    prop_oneof![
        2 => (group.clone(), 0..3u8, 0..2u8, device.clone()).prop_map(|(g, k, u, d)| Op::Create(g, k, u, d)),
        1 => group.clone().prop_map(Op::Delete),
        12 => (group.clone(), user.clone(), device.clone()).prop_map(|(g, u, d)| Op::Join(g, u, d)),
        3 => (group.clone(), user.clone()).prop_map(|(g, u)| Op::Leave(g, u)),
        3 => (group.clone(), user.clone(), device.clone()).prop_map(|(g, u, d)| Op::LeaveDevice(g, u, d)),
        4 => device.prop_map(Op::End),
        16 => (group.clone(), verb, 0..2u8, user.clone()).prop_map(|(g, v, a, t)| Op::Moderation(g, v, a, t)),
        6 => (group, user).prop_map(|(g, u)| Op::Publish(g, u)),
    ]
}

#[derive(Clone, Debug, Default)]
struct Person {
    devices: BTreeSet<u64>,
    pending: bool,
    muted: bool,
    admin: bool,
    banned: bool,
    welcome_until: Option<u64>,
}

impl Person {
    fn status(&self) -> Option<Status> {
        if self.devices.is_empty() {
            None
        } else if self.pending {
            Some(Status::Pending)
        } else if self.muted {
            Some(Status::Muted)
        } else {
            Some(Status::Active)
        }
    }

    fn remembered(&self) -> bool {
        self.muted || self.admin || self.banned || self.welcome_until.is_some()
    }
}

#[derive(Clone, Debug)]
struct Room {
    kind: GroupType,
    people: BTreeMap<u8, Person>,
}

impl Room {
    fn status(&self, user: u8) -> Option<Status> {
        self.people.get(&user)?.status()
    }

    fn active_admin(&self, user: u8) -> bool {
        self.status(user) == Some(Status::Active) && self.people[&user].admin
    }

    fn tidy(&mut self) {
        self.people
            .retain(|_, person| person.remembered() || !person.devices.is_empty());
    }

    fn expire(&mut self, now: u64) {
        for person in self.people.values_mut() {
            if person.welcome_until.is_some_and(|until| until <= now) {
                person.welcome_until = None;
            }
        }
        self.tidy();
    }

    fn join(&mut self, user: u8, device: u64, now: u64) -> Result<Status, Refusal> {
        if let Some(person) = self.people.get_mut(&user) {
            if person.devices.contains(&device) {
                return Err(Refusal::AlreadyMember);
            }
            if let Some(status) = person.status() {
                person.devices.insert(device);
                return Ok(status);
            }
        }
        self.expire(now);
        let known = self.people.get(&user).cloned();
        let person = known.clone().unwrap_or_default();
        if person.banned {
            return Err(Refusal::Banned);
        }
        if known.is_none() && self.people.len() >= MEMBERS {
            return Err(Refusal::GroupFull);
        }
        let pending = self.kind != GroupType::Public && !person.remembered();
        let waiting = self
            .people
            .values()
            .filter(|p| p.status() == Some(Status::Pending));
        if pending && waiting.count() >= PENDING {
            return Err(Refusal::GroupFull);
        }
        let person = self.people.entry(user).or_default();
        person.devices.insert(device);
        person.pending = pending;
        person.welcome_until = None;
        Ok(person.status().unwrap())
    }

    fn gone(&mut self, user: u8, died: bool, now: u64) {
        let private = self.kind != GroupType::Public;
        let person = self.people.get_mut(&user).unwrap();
        if died && private && !person.admin && !person.muted && !person.pending {
            person.welcome_until = Some(now + GRACE);
        }
        person.pending = false;
        person.devices.clear();
        self.tidy();
    }

    fn moderate(
        &mut self,
        verb: Moderation,
        actor: u8,
        target: u8,
        now: u64,
    ) -> Result<(), Refusal> {
        let strict = self.kind == GroupType::StrictPrivate;
        let admin = self.active_admin(actor);
        let status = self.status(target);
        let person = self.people.get(&target).cloned();
        match verb {
            Moderation::Accept => {
                if self.status(actor).is_none() || status.is_none() {
                    return Err(Refusal::NotInGroup);
                }
                if self.status(actor) != Some(Status::Active) || (strict && !admin) {
                    return Err(Refusal::NotAdmin);
                }
                if status != Some(Status::Pending) {
                    return Err(Refusal::NotPending);
                }
                self.people.get_mut(&target).unwrap().pending = false;
                return Ok(());
            }
            Moderation::Mute | Moderation::Unmute if !strict => {
                return Err(Refusal::NotStrictPrivate)
            }
            _ if !admin => return Err(Refusal::NotAdmin),
            Moderation::Ban if actor == target => return Err(Refusal::CannotBan),
            Moderation::Ban => {
                self.expire(now);
                let person = self.people.get(&target);
                if person.is_some_and(|person| person.banned) {
                    return Err(Refusal::AlreadyBanned);
                }
                if person.is_none() && self.people.len() >= MEMBERS {
                    return Err(Refusal::GroupFull);
                }
                let person = self.people.entry(target).or_default();
                person.banned = true;
                person.admin = false;
                person.welcome_until = None;
                self.gone(target, false, 0);
                return Ok(());
            }
            Moderation::Unban => {
                if !person.is_some_and(|person| person.banned) {
                    return Err(Refusal::NotBanned);
                }
                self.people.get_mut(&target).unwrap().banned = false;
                self.tidy();
                return Ok(());
            }
            _ => {}
        }
        let status = status.ok_or(Refusal::NotInGroup)?;
        let admins = self.people.values().filter(|person| person.admin).count();
        let person = self.people.get_mut(&target).unwrap();
        match verb {
            Moderation::Mute if actor == target || status != Status::Active => {
                return Err(Refusal::CannotMute)
            }
            Moderation::Mute => person.muted = true,
            Moderation::Unmute if status != Status::Muted => return Err(Refusal::NotMuted),
            Moderation::Unmute => person.muted = false,
            Moderation::Kick if actor == target => return Err(Refusal::CannotKick),
            Moderation::Kick => {
                person.admin = false;
                self.gone(target, false, 0);
            }
            Moderation::Promote if status != Status::Active => return Err(Refusal::CannotPromote),
            Moderation::Promote if person.admin => return Err(Refusal::AlreadyAdmin),
            Moderation::Promote => person.admin = true,
            Moderation::Demote if !person.admin => return Err(Refusal::CannotDemote),
            Moderation::Demote if admins == 1 => return Err(Refusal::LastAdmin),
            Moderation::Demote => person.admin = false,
            _ => unreachable!(),
        }
        Ok(())
    }
}

#[derive(Default)]
struct Model {
    rooms: BTreeMap<u8, Room>,
}

impl Model {
    fn room(&mut self, group: u8) -> Result<&mut Room, Refusal> {
        self.rooms.get_mut(&group).ok_or(Refusal::NotFound)
    }

    /// What the operation returns, as text, so that all can be compared alike.
    fn apply(&mut self, op: &Op, now: u64) -> String {
        match *op {
            Op::Create(group, kind, user, device) => {
                if self.rooms.contains_key(&group) {
                    return format!("{:?}", Err::<(), _>(Refusal::AlreadyExists));
                }
                let mut people = BTreeMap::new();
                let devices = BTreeSet::from([device]);
                people.insert(
                    user,
                    Person {
                        devices,
                        admin: true,
                        ..Person::default()
                    },
                );
                self.rooms.insert(
                    group,
                    Room {
                        kind: kind_of(kind),
                        people,
                    },
                );
                format!("{:?}", Ok::<(), Refusal>(()))
            }
            Op::Delete(group) => {
                let room = self.rooms.remove(&group).ok_or(Refusal::NotFound);
                format!(
                    "{:?}",
                    room.map(|room| {
                        room.people
                            .values()
                            .filter(|p| p.status().is_some())
                            .count()
                    })
                )
            }
            Op::Join(group, user, device) => {
                format!(
                    "{:?}",
                    self.room(group)
                        .and_then(|room| room.join(user, device, now))
                )
            }
            Op::Leave(group, user) => format!(
                "{:?}",
                self.room(group).and_then(|room| {
                    room.status(user).ok_or(Refusal::NotInGroup)?;
                    room.gone(user, false, now);
                    Ok(())
                })
            ),
            Op::LeaveDevice(group, user, device) => {
                format!(
                    "{:?}",
                    self.room(group).and_then(|room| {
                        let person = room.people.get_mut(&user).ok_or(Refusal::NotInGroup)?;
                        if !person.devices.remove(&device) {
                            return Err(Refusal::NotInGroup);
                        }
                        let last = person.devices.is_empty();
                        if last {
                            room.gone(user, false, now);
                        }
                        Ok(last)
                    })
                )
            }
            Op::End(device) => {
                let mut left = BTreeSet::new();
                for (group, room) in &mut self.rooms {
                    room.expire(now);
                    let users: Vec<u8> = room.people.keys().copied().collect();
                    for user in users {
                        let person = room.people.get_mut(&user).unwrap();
                        if person.devices.remove(&device) {
                            let last = person.devices.is_empty();
                            left.insert((group_name(*group), user_name(user), last));
                            if last {
                                room.gone(user, true, now);
                            }
                        }
                    }
                }
                format!("{left:?}")
            }
            Op::Moderation(group, verb, actor, target) => {
                format!(
                    "{:?}",
                    self.room(group)
                        .and_then(|room| room.moderate(verb, actor, target, now))
                )
            }
            Op::Publish(group, user) => format!(
                "{:?}",
                self.room(group).and_then(|room| {
                    match room.status(user).ok_or(Refusal::NotInGroup)? {
                        Status::Pending => return Err(Refusal::Pending),
                        Status::Muted => return Err(Refusal::Muted),
                        Status::Active => {}
                    }
                    let audience = room
                        .people
                        .values()
                        .filter(|person| !matches!(person.status(), None | Some(Status::Pending)));
                    let mut to: Vec<u64> = audience
                        .clone()
                        .flat_map(|person| person.devices.iter().map(|device| device + 1_000))
                        .collect();
                    to.sort_unstable();
                    Ok((audience.count(), to))
                })
            ),
        }
    }
}

fn kind_of(kind: u8) -> GroupType {
    [
        GroupType::Public,
        GroupType::Private,
        GroupType::StrictPrivate,
    ][kind as usize]
}

fn group_name(group: u8) -> String {
    format!("group {group}")
}

fn user_name(user: u8) -> String {
    format!("user {user}")
}

fn real(relay: &Relay<u64>, op: &Op, now: u64) -> String {
    match *op {
        Op::Create(group, kind, user, d) => {
            let created = Created { ms: now, by: 0 };
            let (id, user) = (group_name(group), user_name(user));
            let created = relay.create(&id, kind_of(kind), &user, device(d), created);
            format!("{:?}", created.map(drop))
        }
        Op::Delete(group) => format!("{:?}", relay.delete(&group_name(group))),
        Op::Join(group, user, d) => {
            let joined = relay.join(&group_name(group), &user_name(user), device(d), now);
            format!("{:?}", joined.map(|joined| joined.status))
        }
        Op::Leave(group, user) => {
            format!(
                "{:?}",
                relay.leave(&group_name(group), &user_name(user), now)
            )
        }
        Op::LeaveDevice(group, user, d) => {
            format!(
                "{:?}",
                relay.leave_device(&group_name(group), &user_name(user), d, now)
            )
        }
        Op::End(d) => {
            let left: BTreeSet<(String, String, bool)> = relay
                .remove_device(d, now)
                .into_iter()
                .map(|left| (left.group.into(), left.user.into(), left.last))
                .collect();
            format!("{left:?}")
        }
        Op::Moderation(group, verb, actor, target) => {
            let (actor, target) = (user_name(actor), user_name(target));
            format!(
                "{:?}",
                relay.moderate(&group_name(group), verb, &actor, &target, now)
            )
        }
        Op::Publish(group, user) => {
            let fan = relay.publish(&group_name(group), Some(&user_name(user)), Nanos::ZERO);
            format!(
                "{:?}",
                fan.map(|fan| (fan.audience, super::recipients(&fan)))
            )
        }
    }
}

type Seen = (String, Status, bool, usize);

fn members(relay: &Relay<u64>, group: u8) -> Vec<Seen> {
    let page = relay.page(&group_name(group), 0, 100);
    let mut rows: Vec<Seen> = page
        .map(|page| page.rows)
        .unwrap_or_default()
        .into_iter()
        .map(|row| (row.user.into(), row.status, row.admin, row.devices))
        .collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows
}

fn expected(model: &Model, group: u8) -> Vec<Seen> {
    let people = model.rooms.get(&group).map(|room| room.people.clone());
    people
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(user, person)| {
            let status = person.status()?;
            Some((user_name(user), status, person.admin, person.devices.len()))
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_does_what_the_documentation_says(
        kind in 0..3u8,
        ops in prop::collection::vec((op(), 0..4u64), 1..250),
    ) {
        let bounds = Bounds {
            members: MEMBERS,
            pending: PENDING,
            grace_ms: GRACE,
            ..Bounds::default()
        };
        let relay = Relay::new(bounds);
        let mut model = Model::default();
        let mut now = 0;
        let create = Op::Create(0, kind, 0, 0);
        prop_assert_eq!(real(&relay, &create, now), model.apply(&create, now));
        for (n, (op, later)) in ops.into_iter().enumerate() {
            now += later;
            prop_assert_eq!(real(&relay, &op, now), model.apply(&op, now), "{:?}", op);
            // It walks all shards, which takes longer than the rest.
            if n % 4 == 0 {
                relay.verify();
            }
            for group in 0..2 {
                prop_assert_eq!(members(&relay, group), expected(&model, group), "{:?}", op);
            }
        }
        relay.verify();
        for user in 0..5 {
            let mut groups = relay.groups_of(&user_name(user));
            groups.sort_by(|a, b| a.0.cmp(&b.0));
            let rooms = model.rooms.iter();
            let own: Vec<_> = rooms
                .filter_map(|(group, room)| Some((group_name(*group).into(), room.status(user)?)))
                .collect();
            prop_assert_eq!(groups, own);
        }
    }
}
