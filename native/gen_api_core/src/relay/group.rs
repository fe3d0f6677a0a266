//! One group: its members, and their flags.

use super::chunks::Chunks;
use super::member::{Member, MemberFlags};
use super::member_table::MemberTable;
use super::recipients::{Lane, Recipient};
use super::rules::GroupType;
use super::users::User;
use crate::sync::Mutex;
use smallvec::SmallVec;
use std::collections::VecDeque;

/// When and where a group was created: the older of two wins when nodes find each other.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Created {
    /// Milliseconds of the caller's epoch.
    pub ms: u64,
    /// Tells apart what was created within a millisecond.
    pub by: u64,
}

/// A group. What does not change is outside of the lock.
#[derive(Debug)]
pub(super) struct Group<H> {
    pub(super) id: Box<str>,
    pub(super) state: Mutex<State<H>>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State<H> {
    pub(super) kind: GroupType,
    pub(super) created: Created,
    /// When it last changed.
    pub(super) changed_ms: u64,
    /// Taken out of the index; whoever still holds it must look again.
    pub(super) deleted: bool,
    pub(super) members: MemberTable<H>,
    /// The devices; those that get messages come first.
    pub(super) recipients: Chunks<Recipient<H>>,
    pub(super) receiving: usize,
    pub(super) lanes: SmallVec<[Lane; 1]>,
    /// Members who are in the group.
    pub(super) in_group: usize,
    /// Of those, who are not pending.
    pub(super) audience: usize,
    /// Admins, remembered ones included.
    pub(super) admins: usize,
    /// Counts the changes of members' flags, those seen on other nodes included.
    pub(super) clock: u32,
    /// Devices of members on other nodes: how many members each node has.
    pub(super) remote_members: SmallVec<[(u32, u32); 2]>,
    /// Those who may come back, and until when.
    grace: VecDeque<(u64, u32)>,
}

impl<H: Copy + Eq> Group<H> {
    pub(super) fn new(id: &str, kind: GroupType, created: Created) -> Self {
        Self {
            id: id.into(),
            state: Mutex::new(State {
                kind,
                created,
                changed_ms: created.ms,
                deleted: false,
                members: MemberTable::default(),
                recipients: Chunks::default(),
                receiving: 0,
                lanes: SmallVec::new(),
                in_group: 0,
                audience: 0,
                admins: 0,
                clock: 0,
                remote_members: SmallVec::new(),
                grace: VecDeque::new(),
            }),
        }
    }
}

fn adjust(count: &mut usize, before: bool, after: bool) {
    *count = match (before, after) {
        (false, true) => count.saturating_add(1),
        (true, false) => count.saturating_sub(1),
        _ => *count,
    };
}

impl<H: Copy + Eq> State<H> {
    pub(super) fn pending(&self) -> usize {
        self.in_group.saturating_sub(self.audience)
    }

    pub(super) fn add(&mut self, user: User<H>, hash: u64, hasher: impl Fn(&[u8]) -> u64) -> u32 {
        self.members.insert(user, hash, hasher)
    }

    /// Sets the flags of a member, and what follows from them. Returns the flags before.
    pub(super) fn set_flags(&mut self, at: u32, after: MemberFlags) -> MemberFlags {
        let Some(member) = self.members.get_mut(at) else {
            return MemberFlags::default();
        };
        let before = std::mem::replace(&mut member.flags, after);
        if before == after {
            return before;
        }
        self.clock = self.clock.saturating_add(1);
        member.version = self.clock;
        let in_group = MemberFlags::IN_GROUP;
        adjust(
            &mut self.in_group,
            before.has(in_group),
            after.has(in_group),
        );
        adjust(
            &mut self.audience,
            before.is_audience(),
            after.is_audience(),
        );
        adjust(
            &mut self.admins,
            before.has(MemberFlags::ADMIN),
            after.has(MemberFlags::ADMIN),
        );
        if before.is_audience() != after.is_audience() {
            self.redirect(at, after.is_audience());
        }
        before
    }

    /// Forgets a member of whom there is nothing to know; returns the entry, if so.
    pub(super) fn prune_member(
        &mut self,
        at: u32,
        hash: impl Fn(&[u8]) -> u64,
    ) -> Option<Member<H>> {
        let member = self.members.get(at)?;
        let known = member.flags.has(MemberFlags::IN_GROUP)
            || member.flags.is_remembered()
            || !member.devices.is_empty()
            || member.remote != 0;
        if known {
            return None;
        }
        let hash = hash(member.user.bytes());
        self.members.remove(at, hash)
    }

    /// A member may come back until then.
    pub(super) fn grant_grace(&mut self, at: u32, until_ms: u64) {
        self.grace.push_back((until_ms, at));
    }

    /// The next one whose time is over. They may have come back, or be somebody else by now.
    pub(super) fn next_overdue(&mut self, now_ms: u64) -> Option<u32> {
        let (until, at) = *self.grace.front()?;
        if until > now_ms {
            return None;
        }
        self.grace.pop_front();
        Some(at)
    }

    /// A bit for each other node with devices of members.
    pub(super) fn remote(&self) -> u64 {
        self.remote_members
            .iter()
            .fold(0, |mask, (node, _)| mask | 1 << (node & 63))
    }

    /// Roughly the bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Group<H>>()
            + self.members.bytes()
            + self.recipients.len() * size_of::<Recipient<H>>()
            + self.grace.capacity() * 16
    }
}
