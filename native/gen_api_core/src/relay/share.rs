//! Groups that several nodes hold.
//!
//! Every node has a record of every member of every group, and devices of its own only; of the
//! other nodes it knows which have devices of a member, a bit for each. One node at a time
//! decides on changes (`order_…`), the others copy the records that come of it ([`Relay::put`]).
//! Nodes that find each other unite what they have ([`Relay::merge`]).

use super::group::{Created, Device, Group, State};
use super::index::Relay;
use super::member::{Standing, Status};
use super::moderate::Change;
use super::outcome::Refusal;
use super::rules::GroupType;
use crate::sync::unlock_fair;
use std::hash::Hash;
use std::sync::atomic::Ordering;
use std::sync::Arc;

type Outcome<T = ()> = Result<T, Refusal>;

/// Members that are looked at without letting go of the group: those who send to it may wait on
/// a scheduler of the VM.
const SLICE: usize = 256;

/// What all nodes know of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The user.
    pub user: Box<str>,
    /// How he stands.
    pub standing: Standing,
    /// Which change of the group this is.
    pub version: u32,
    /// When he joined.
    pub joined_ms: u64,
}

/// What all nodes know of a group itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The type.
    pub kind: GroupType,
    /// When and where it was created.
    pub created: Created,
    /// When it last changed.
    pub changed_ms: u64,
}

/// Some records of a group, each with whether this node has devices of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// The group.
    pub origin: Origin,
    /// The records.
    pub records: Vec<(Record, bool)>,
    /// Where the next page starts, if there is one.
    pub next: Option<usize>,
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Whether other nodes have to agree to changes: then operations that are not ordered are
    /// refused with `Shared`. Whoever reads a group after setting this sees all unordered changes.
    pub fn set_shared(&self, shared: bool) {
        self.shared.store(shared, Ordering::SeqCst);
    }

    /// What was set.
    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::SeqCst)
    }

    /// The names of all groups.
    pub fn ids(&self) -> Vec<Box<str>> {
        self.all().map(|group| group.id.clone()).collect()
    }

    fn record(&self, state: &State<H>, user: &str) -> Record {
        let at = state
            .roster
            .find(user.as_bytes(), self.hash(user.as_bytes()));
        let member = at.and_then(|at| state.roster.get(at));
        Record {
            user: user.into(),
            standing: member.map_or_else(Standing::default, |member| member.standing),
            // Somebody who was forgotten just now, by the last change.
            version: member.map_or(state.clock, |member| member.version),
            joined_ms: member.map_or(0, |member| member.joined_ms()),
        }
    }

    fn origin_of(state: &State<H>) -> Origin {
        Origin {
            kind: state.kind,
            created: state.created,
            changed_ms: state.changed_ms,
        }
    }

    /// Creates a group whose creator has no device yet.
    ///
    /// # Errors
    ///
    /// As [`Relay::create`].
    pub fn order_create(
        &self,
        id: &str,
        kind: GroupType,
        user: &str,
        created: Created,
    ) -> Outcome<(Origin, Record)> {
        let (group, _) = self.found(id, kind, user, created, None)?;
        let state = group.state.lock();
        Ok((Self::origin_of(&state), self.record(&state, user)))
    }

    /// Deletes a group.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn order_delete(&self, id: &str) -> Outcome<usize> {
        let closed = self.with(id, |group, state| Ok(self.close(group, state)))?;
        Ok(self.dissolve(closed))
    }

    /// Decides as what a user is in, who joins with a device.
    ///
    /// # Errors
    ///
    /// As [`Relay::join`].
    pub fn order_join(
        &self,
        id: &str,
        user: &str,
        now_ms: u64,
    ) -> Outcome<(Status, Origin, Record)> {
        self.with(id, |group, state| {
            let (_, status) = self.admit(group, state, user, now_ms)?;
            Ok((status, Self::origin_of(state), self.record(state, user)))
        })
    }

    /// A user leaves.
    ///
    /// # Errors
    ///
    /// As [`Relay::leave`].
    pub fn order_leave(&self, id: &str, user: &str, now_ms: u64) -> Outcome<(Origin, Record)> {
        self.with(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            self.detach_all(group, state, at);
            self.depart(group, state, at, false, now_ms);
            Ok((Self::origin_of(state), self.record(state, user)))
        })
    }

    /// Does something to a member in the name of another.
    ///
    /// # Errors
    ///
    /// As [`Relay::change`].
    pub fn order_change(
        &self,
        id: &str,
        change: Change,
        actor: &str,
        target: &str,
        now_ms: u64,
    ) -> Outcome<(Origin, Record)> {
        self.with(id, |group, state| {
            self.changed(group, state, change, actor, target, now_ms)?;
            Ok((Self::origin_of(state), self.record(state, target)))
        })
    }

    /// A member leaves if he has no device on any node.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`, `AlreadyMember` when he has one.
    pub fn order_depart(
        &self,
        id: &str,
        user: &str,
        died: bool,
        now_ms: u64,
    ) -> Outcome<(Origin, Record)> {
        self.with(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            let here = state
                .roster
                .get(at)
                .is_some_and(|member| member.remote != 0 || !member.devices.is_empty());
            if here {
                return Err(Refusal::AlreadyMember);
            }
            self.depart(group, state, at, died, now_ms);
            Ok((Self::origin_of(state), self.record(state, user)))
        })
    }

    /// A device of somebody who is in the group by now; whether nobody watches it yet.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`, `AlreadyMember`.
    pub fn attach(&self, id: &str, user: &str, device: Device<'_, H>) -> Outcome<bool> {
        self.with(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            let devices = state.roster.get(at).map(|member| &member.devices);
            if devices.is_some_and(|devices| devices.find(device.id).is_some()) {
                return Err(Refusal::AlreadyMember);
            }
            state.attach(at, device);
            Ok(self.devices.enter(device.id, group, at))
        })
    }

    /// Takes a device out and nothing else.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`.
    pub fn release(&self, id: &str, user: &str, device: H) -> Outcome {
        self.with(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            if self.detach(group, state, at, device) {
                Ok(())
            } else {
                Err(Refusal::NotInGroup)
            }
        })
    }

    /// Whether a user has devices on this node, and this one.
    pub fn is_here(&self, id: &str, user: &str, device: Option<H>) -> bool {
        let here = self.with(id, |_group, state| {
            let hash = self.hash(user.as_bytes());
            let at = state.roster.find(user.as_bytes(), hash);
            let member = at.and_then(|at| state.roster.get(at));
            Ok(member.is_some_and(|member| match device {
                Some(device) => member.devices.find(device).is_some(),
                None => !member.devices.is_empty(),
            }))
        });
        here.unwrap_or(false)
    }

    fn place(&self, group: &Arc<Group<H>>, state: &mut State<H>, user: &str) -> Option<u32> {
        let hash = self.hash(user.as_bytes());
        let known = state.roster.find(user.as_bytes(), hash);
        known.or_else(|| {
            // Whoever decided has counted already.
            let user = self
                .users
                .enter(user, hash, group, usize::MAX, |id| self.hash(id))?;
            Some(state.add(user, hash, |id| self.hash(id)))
        })
    }

    /// Copies a record that another node has made, and the group if it is not known. With
    /// `evict` all devices of the user are taken out; whether there were any.
    pub fn put(&self, id: &str, origin: Origin, record: &Record, evict: bool) -> bool {
        let Some(group) = self.group(id, origin) else {
            return false;
        };
        let mut state = group.state.lock();
        if state.deleted {
            return false;
        }
        state.changed_ms = state.changed_ms.max(origin.changed_ms);
        self.expire(&group, &mut state, origin.changed_ms);
        let Some(at) = self.place(&group, &mut state, &record.user) else {
            return false;
        };
        let known = state.roster.get(at).map(|m| (m.version, m.standing.bits()));
        let newer = known.is_none_or(|known| (record.version, record.standing.bits()) > known);
        if newer {
            Self::copy(&mut state, at, record);
        }
        let had = state.roster.get(at).is_some_and(|m| !m.devices.is_empty());
        if evict {
            self.detach_all(&group, &mut state, at);
        }
        self.tidy(&group, &mut state, at);
        evict && had
    }

    fn copy(state: &mut State<H>, at: u32, record: &Record) {
        state.stand(at, record.standing);
        state.clock = state.clock.max(record.version);
        if let Some(member) = state.roster.get_mut(at) {
            member.version = record.version;
            member.set_joined_ms(record.joined_ms);
        }
        if record.standing.has(Standing::GRACE) {
            state.grant_grace(at, record.joined_ms);
        }
    }

    /// The group of that name, which is there afterwards.
    fn group(&self, id: &str, origin: Origin) -> Option<Arc<Group<H>>> {
        loop {
            if let Some(group) = self.find(id) {
                return Some(group);
            }
            let group = Arc::new(Group::new(id, origin.kind, origin.created));
            match self.publish_group(&group, usize::MAX) {
                Ok(()) => return Some(group),
                Err(Refusal::AlreadyExists) => {}
                Err(_) => return None,
            }
        }
    }

    /// Another node has devices of a user, or has none any more.
    pub fn set_remote(&self, id: &str, user: &str, node: u32, there: bool) {
        let _ = self.with(id, |group, state| {
            let at = if there {
                self.place(group, state, user)
            } else {
                let hash = self.hash(user.as_bytes());
                state.roster.find(user.as_bytes(), hash)
            };
            if let Some(at) = at {
                Self::mark(state, at, node, there);
                self.tidy(group, state, at);
            }
            Ok(())
        });
    }

    fn mark(state: &mut State<H>, at: u32, node: u32, there: bool) {
        let bit = 1 << (node & 63);
        let Some(member) = state.roster.get_mut(at) else {
            return;
        };
        if (member.remote & bit != 0) == there {
            return;
        }
        member.remote ^= bit;
        let known = state.elsewhere.iter().position(|count| count.0 == node);
        match (known.and_then(|n| state.elsewhere.get_mut(n)), there) {
            (Some(count), true) => count.1 = count.1.saturating_add(1),
            (None, true) => state.elsewhere.push((node, 1)),
            (Some(count), false) => count.1 = count.1.saturating_sub(1),
            (None, false) => {}
        }
        state.elsewhere.retain(|count| count.1 > 0);
    }

    /// Members without a device on any node, of which there are `nodes`, a bit each: others have
    /// none any more. Linear in the number of members, but nobody waits for it for long.
    pub fn absent(&self, id: &str, nodes: u64) -> Vec<Box<str>> {
        let mut absent = Vec::new();
        let Some(group) = self.find(id) else {
            return absent;
        };
        let mut from = 0;
        loop {
            let mut state = group.state.lock();
            let end = state.roster.end();
            if from >= end {
                break;
            }
            let to = end.min(from + SLICE);
            for at in from as u32..to as u32 {
                Self::mark_only(&mut state, at, nodes);
                let Some(member) = state.roster.get(at) else {
                    continue;
                };
                let nowhere = member.remote == 0 && member.devices.is_empty();
                if nowhere && member.standing.has(Standing::PRESENT) {
                    absent.push(member.user.id().into());
                }
                self.tidy(&group, &mut state, at);
            }
            unlock_fair(state);
            from = to;
        }
        absent
    }

    /// Of the other nodes, only these may have devices of a member.
    fn mark_only(state: &mut State<H>, at: u32, nodes: u64) {
        let mut others = state
            .roster
            .get(at)
            .map_or(0, |member| member.remote & !nodes);
        while others != 0 {
            Self::mark(state, at, others.trailing_zeros(), false);
            others &= others - 1;
        }
    }

    /// The records at `count` places from `start` on.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn records(&self, id: &str, start: usize, count: usize) -> Outcome<Records> {
        self.with(id, |_group, state| {
            let members = state.roster.slice(start, count);
            let records = members.map(|member| {
                let record = Record {
                    user: member.user.id().into(),
                    standing: member.standing,
                    version: member.version,
                    joined_ms: member.joined_ms(),
                };
                (record, !member.devices.is_empty())
            });
            let next = start.saturating_add(count);
            Ok(Records {
                origin: Self::origin_of(state),
                records: records.collect(),
                next: (next < state.roster.end()).then_some(next),
            })
        })
    }

    /// Unites what another node knows of a group with what is known here; users who have been
    /// taken out here by that.
    ///
    /// Where both nodes have changed a group on their own (`apart`), or have each created it, the
    /// type and the admins of the older creation win, members unite, muted beats active beats
    /// pending, and a ban beats them all. Otherwise the later version of a record wins.
    pub fn merge(
        &self,
        id: &str,
        origin: Origin,
        node: u32,
        apart: bool,
        records: &[(Record, bool)],
    ) -> Vec<Box<str>> {
        let mut out = Vec::new();
        let Some(group) = self.group(id, origin) else {
            return out;
        };
        let mut state = group.state.lock();
        let ours = state.created;
        if origin.created < ours {
            state.kind = origin.kind;
            state.created = origin.created;
        }
        state.changed_ms = state.changed_ms.max(origin.changed_ms);
        drop(state);
        if origin.created < ours {
            self.dismiss(&group);
        }
        let apart = apart || ours != origin.created;
        for records in records.chunks(SLICE) {
            let mut state = group.state.lock();
            if state.deleted {
                break;
            }
            for (record, there) in records {
                let Some(at) = self.place(&group, &mut state, &record.user) else {
                    continue;
                };
                Self::mark(&mut state, at, node, *there);
                let mut theirs = record.clone();
                if ours < origin.created {
                    theirs.standing = theirs.standing.without(Standing::ADMIN);
                }
                let Some(united) = unite(state.roster.get(at), &theirs, apart) else {
                    continue;
                };
                Self::copy(&mut state, at, &united);
                let devices = state.roster.get(at).is_some_and(|m| !m.devices.is_empty());
                if devices && !united.standing.has(Standing::PRESENT) {
                    self.detach_all(&group, &mut state, at);
                    out.push(record.user.clone());
                }
                self.tidy(&group, &mut state, at);
            }
            unlock_fair(state);
        }
        out
    }

    /// Nobody is an admin any more.
    fn dismiss(&self, group: &Arc<Group<H>>) {
        let mut from = 0;
        loop {
            let mut state = group.state.lock();
            let end = state.roster.end();
            if from >= end {
                break;
            }
            let to = end.min(from + SLICE);
            for at in from as u32..to as u32 {
                let known = state.roster.get(at).map(|m| (m.standing, m.version));
                if let Some((standing, version)) = known {
                    state.stand(at, standing.without(Standing::ADMIN));
                    // The other node takes it away in its copy as well: no change to be counted.
                    if let Some(member) = state.roster.get_mut(at) {
                        member.version = version;
                    }
                    self.tidy(group, &mut state, at);
                }
            }
            unlock_fair(state);
            from = to;
        }
    }
}

/// What becomes of two records of one user; none if ours stays.
fn unite<H>(
    ours: Option<&super::member::Member<H>>,
    theirs: &Record,
    apart: bool,
) -> Option<Record> {
    let ours = ours?;
    let (a, b) = (ours.standing, theirs.standing);
    if !apart || ours.version == 0 {
        let newer = (theirs.version, b.bits()) > (ours.version, a.bits());
        return newer.then(|| theirs.clone());
    }
    let present = Standing::PRESENT;
    let mut united = Standing::from_bits(a.bits() | b.bits());
    let waits = |standing: Standing| !standing.has(present) || standing.has(Standing::PENDING);
    if !(waits(a) && waits(b)) || united.has(Standing::MUTED) || united.has(Standing::ADMIN) {
        united = united.without(Standing::PENDING);
    }
    if united.has(Standing::BANNED) {
        united = united.without(present).without(Standing::PENDING);
        united = united.without(Standing::ADMIN).without(Standing::GRACE);
    }
    if united.has(present) {
        united = united.without(Standing::GRACE);
    }
    let version = ours.version.max(theirs.version);
    Some(Record {
        user: theirs.user.clone(),
        standing: united,
        version: version.saturating_add(u32::from(a != b)),
        joined_ms: match (a.has(present), b.has(present)) {
            (true, true) => ours.joined_ms().min(theirs.joined_ms),
            (true, false) => ours.joined_ms(),
            _ => theirs.joined_ms,
        },
    })
}
