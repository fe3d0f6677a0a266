//! What two nodes know of a group is united.

use super::group::{Group, State};
use super::index::Relay;
use super::member::{Member, MemberFlags};
use super::record::{Origin, Record};
use super::yielding_lock::YieldingLock;
use std::hash::Hash;
use std::sync::Arc;

/// Far more than all nodes of one relay may count the version of a record on while they unite, by one for each
/// other node, and not all of them by as many.
const VERSION_JUMP: u32 = 4_096;

/// What came of it that two nodes have united what they know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Users whose devices have been taken out here.
    pub out: Vec<Box<str>>,
    /// Records of which the other node has missed the end: as they are now.
    pub forgotten: Vec<Record>,
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Unites what another node knows of a group with what is known here.
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
    ) -> Merged {
        let merged = self.with_group_or_new(id, origin, |group, state| {
            let mut lock = YieldingLock::new(group, state);
            self.merge_into(group, &mut lock, origin, node, apart, records)
        });
        // A group that is deleted on the way might as well have been deleted afterwards.
        merged.flatten().unwrap_or_default()
    }

    /// None if the group was deleted meanwhile.
    fn merge_into(
        &self,
        group: &Arc<Group<H>>,
        lock: &mut YieldingLock<'_, H>,
        origin: Origin,
        node: u32,
        apart: bool,
        records: &[(Record, bool)],
    ) -> Option<Merged> {
        let mut merged = Merged::default();
        let state = lock.step()?;
        let (ours, clock) = (state.created, state.clock);
        state.changed_ms = state.changed_ms.max(origin.changed_ms);
        if origin.created < ours {
            state.kind = origin.kind;
            state.created = origin.created;
            self.demote_all(group, lock)?;
        }
        let apart = apart || ours != origin.created;
        for (record, there) in records {
            let state = lock.step()?;
            if !apart && !there && self.has_forgotten(state, clock, record) {
                merged.forgotten.push(self.record(state, &record.user));
                continue;
            }
            let Some(at) = self.find_or_add_member(group, state, &record.user) else {
                continue;
            };
            Self::mark_remote(state, at, node, *there);
            let mut theirs = record.clone();
            if ours < origin.created {
                theirs.flags = theirs.flags.without(MemberFlags::ADMIN);
            }
            let Some(united) = merge_records(state.members.get(at), &theirs, apart) else {
                continue;
            };
            Self::apply_record(state, at, &united);
            let devices = state.members.get(at).is_some_and(|m| !m.devices.is_empty());
            if devices && !united.flags.has(MemberFlags::IN_GROUP) {
                self.detach_all_devices(group, state, at);
                merged.out.push(record.user.clone());
            }
            self.prune_member(group, state, at);
        }
        if apart {
            // Or what is decided here next would be older than what others have made of the same.
            let state = lock.step()?;
            state.clock = state.clock.saturating_add(VERSION_JUMP);
        }
        Some(merged)
    }

    /// Whether there was something to remember of somebody, and that had ended at that time, which the other node
    /// has missed.
    fn has_forgotten(&self, state: &State<H>, clock: u32, record: &Record) -> bool {
        let hash = self.hash(record.user.as_bytes());
        !record.flags.has(MemberFlags::IN_GROUP)
            && record.version <= clock
            && state.members.find(record.user.as_bytes(), hash).is_none()
    }

    /// Nobody is an admin any more. None if the group was deleted meanwhile.
    fn demote_all(&self, group: &Arc<Group<H>>, lock: &mut YieldingLock<'_, H>) -> Option<()> {
        let mut at = 0;
        loop {
            let state = lock.step()?;
            if at as usize >= state.members.end() {
                return Some(());
            }
            let known = state.members.get(at).map(|m| (m.flags, m.version));
            if let Some((flags, version)) = known {
                state.set_flags(at, flags.without(MemberFlags::ADMIN));
                // The other node takes it away in its copy as well: no change to be counted.
                if let Some(member) = state.members.get_mut(at) {
                    member.version = version;
                }
                self.prune_member(group, state, at);
            }
            at += 1;
        }
    }
}

/// What becomes of two records of one user; none if ours stays.
fn merge_records<H>(ours: Option<&Member<H>>, theirs: &Record, apart: bool) -> Option<Record> {
    let ours = ours?;
    let (a, b) = (ours.flags, theirs.flags);
    if !apart || ours.version == 0 {
        let newer = (theirs.version, b.bits()) > (ours.version, a.bits());
        return newer.then(|| theirs.clone());
    }
    let in_group = MemberFlags::IN_GROUP;
    let mut united = MemberFlags::from_bits(a.bits() | b.bits());
    let waits = |flags: MemberFlags| !flags.has(in_group) || flags.has(MemberFlags::PENDING);
    if !(waits(a) && waits(b)) || united.has(MemberFlags::MUTED) || united.has(MemberFlags::ADMIN) {
        united = united.without(MemberFlags::PENDING);
    }
    if united.has(MemberFlags::BANNED) {
        united = united.without(in_group).without(MemberFlags::PENDING);
        united = united
            .without(MemberFlags::ADMIN)
            .without(MemberFlags::GRACE);
    }
    if united.has(in_group) {
        united = united.without(MemberFlags::GRACE);
    }
    let version = ours.version.max(theirs.version);
    Some(Record {
        user: theirs.user.clone(),
        flags: united,
        version: version.saturating_add(u32::from(a != b)),
        joined_ms: match (a.has(in_group), b.has(in_group)) {
            (true, true) => ours.joined_ms().min(theirs.joined_ms),
            (true, false) => ours.joined_ms(),
            _ => theirs.joined_ms,
        },
    })
}
