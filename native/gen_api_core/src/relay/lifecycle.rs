//! Groups are created and deleted.

use super::group::{Created, Group, State};
use super::index::{Outcome, Relay};
use super::member::MemberFlags;
use super::member_table::MemberTable;
use super::outcome::Refusal;
use super::recipients::Device;
use super::rules::GroupType;
use crate::sync::atomic::Ordering;
use std::hash::Hash;
use std::sync::Arc;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Creates a group with its first member, an active admin. The result says whether nobody
    /// monitors the device yet.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `TooManyGroups`.
    pub fn create(
        &self,
        id: &str,
        kind: GroupType,
        user: &str,
        device: Device<'_, H>,
        created: Created,
    ) -> Outcome<bool> {
        self.create_group(id, kind, user, created, false, |group, state, at| {
            state.attach(at, device);
            self.devices.enter(device.id, group, at)
        })
    }

    /// A new group with its first member, of whom `then` gets the place before anybody else can have
    /// them leave. Where other nodes have to agree it has to be `decided` by the leader.
    pub(super) fn create_group<T>(
        &self,
        id: &str,
        kind: GroupType,
        user: &str,
        created: Created,
        decided: bool,
        then: impl FnOnce(&Arc<Group<H>>, &mut State<H>, u32) -> T,
    ) -> Outcome<T> {
        let bounds = self.bounds.load();
        if self.find(id).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        if !decided {
            self.check_unshared()?;
        }
        let group = Arc::new(Group::new(id, kind, created));
        let hash = self.hash(user.as_bytes());
        let mut state = group.state.lock();
        let entered = self
            .users
            .enter(user, hash, &group, bounds.groups_per_user, |id| {
                self.hash(id)
            })
            .ok_or(Refusal::TooManyGroups)?;
        let leave = entered.clone();
        let at = state.add(entered, hash, |id| self.hash(id));
        if let Some(member) = state.members.get_mut(at) {
            member.set_joined_ms(created.ms);
        }
        state.set_flags(at, MemberFlags::IN_GROUP.with(MemberFlags::ADMIN));
        if let Err(refusal) = self.insert_group(&group, bounds.groups, decided) {
            state.deleted = true;
            self.users.leave(&leave, hash, &group);
            return Err(refusal);
        }
        Ok(then(&group, &mut state, at))
    }

    /// Makes a new group known to all.
    pub(super) fn insert_group(
        &self,
        group: &Arc<Group<H>>,
        most: usize,
        decided: bool,
    ) -> Outcome {
        let hash = self.hash(group.id.as_bytes());
        let Some(shard) = self.shard(hash) else {
            return Err(Refusal::TooManyGroups);
        };
        let mut shard = shard.write();
        if shard.find(hash, |other| other.id == group.id).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        if !decided {
            // Again, where somebody who copies all groups has not looked yet or does see it.
            self.check_unshared()?;
        }
        let more = |count| (count < most).then_some(count + 1);
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| Refusal::TooManyGroups)?;
        shard.insert_unique(hash, Arc::clone(group), |group| {
            self.hash(group.id.as_bytes())
        });
        Ok(())
    }

    /// Deletes a group with all that it remembers; how many members were in it. Linear in the
    /// number of its members, but nobody waits for it.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn delete(&self, id: &str) -> Outcome<usize> {
        let deleted = self.with_unshared_group(id, |group, state| Ok(self.unlist(group, state)))?;
        Ok(self.remove_members(deleted))
    }

    /// Nobody finds the group any more.
    pub(super) fn unlist(&self, group: &Arc<Group<H>>, state: &mut State<H>) -> DeletedGroup<H> {
        state.deleted = true;
        let hash = self.hash(group.id.as_bytes());
        if let Some(shard) = self.shard(hash) {
            let mut shard = shard.write();
            if let Ok(entry) = shard.find_entry(hash, |other| Arc::ptr_eq(other, group)) {
                entry.remove();
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        DeletedGroup {
            group: Arc::clone(group),
            members: std::mem::take(&mut state.members),
            in_group: state.in_group,
        }
    }

    /// Its members are no longer in it; how many there were. The group is not locked: somebody
    /// who had found it before may be waiting for it.
    pub(super) fn remove_members(&self, deleted: DeletedGroup<H>) -> usize {
        let DeletedGroup {
            group,
            members,
            in_group,
        } = deleted;
        for at in 0..members.end() as u32 {
            let Some(member) = members.get(at) else {
                continue;
            };
            for n in 0..member.devices.len() {
                if let Some((id, _)) = member.devices.get(n) {
                    self.devices.leave(id, &group, at);
                }
            }
            let hash = self.hash(member.user.bytes());
            self.users.leave(&member.user, hash, &group);
        }
        in_group
    }
}

/// A group that was deleted, and who was in it.
#[derive(Debug)]
pub(super) struct DeletedGroup<H> {
    group: Arc<Group<H>>,
    members: MemberTable<H>,
    in_group: usize,
}
