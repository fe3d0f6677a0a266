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

/// Of somebody who creates a group.
pub(super) const CREATOR: MemberFlags = MemberFlags::IN_GROUP.with(MemberFlags::ADMIN);

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
        let creator = [(user, CREATOR)];
        self.create_group(id, kind, &creator, created, false, |group, state| {
            let hash = self.hash(user.as_bytes());
            let at = state.members.find(user.as_bytes(), hash);
            at.is_some_and(|at| {
                state.attach(at, device);
                self.devices.enter(device.id, group, at)
            })
        })
    }

    /// Creates a group without members, unless there is one of that type. The admins are remembered as such.
    /// Where other nodes have to agree it has to be `decided` by the leader.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if it is of another type, `TooManyGroups`.
    pub fn ensure(
        &self,
        id: &str,
        kind: GroupType,
        admins: &[&str],
        created: Created,
        decided: bool,
    ) -> Outcome {
        let admins: Vec<_> = admins
            .iter()
            .map(|user| (*user, MemberFlags::ADMIN))
            .collect();
        loop {
            match self.create_group(id, kind, &admins, created, decided, |_group, _state| ()) {
                Err(Refusal::AlreadyExists) => {}
                outcome => return outcome,
            }
            let same = self.with_group(id, |_group, state| Ok(state.kind == kind));
            match same {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(Refusal::AlreadyExists),
                // Deleted in the meantime.
                Err(_) => {}
            }
        }
    }

    /// A new group with whom it knows from the start; `then` sees it before anybody else can have them
    /// leave. Where other nodes have to agree it has to be `decided` by the leader.
    pub(super) fn create_group<T>(
        &self,
        id: &str,
        kind: GroupType,
        founders: &[(&str, MemberFlags)],
        created: Created,
        decided: bool,
        then: impl FnOnce(&Arc<Group<H>>, &mut State<H>) -> T,
    ) -> Outcome<T> {
        let bounds = self.bounds.load();
        if self.find(id).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        if !decided {
            self.check_unshared()?;
        }
        let group = Arc::new(Group::new(id, kind, created));
        let mut state = group.state.lock();
        let entered = founders.iter().try_for_each(|(user, flags)| {
            self.enter_founder(&group, &mut state, user, *flags, bounds.groups_per_user)
        });
        let inserted = entered.and_then(|()| self.insert_group(&group, bounds.groups, decided));
        if let Err(refusal) = inserted {
            state.deleted = true;
            self.remove_members(DeletedGroup {
                group: Arc::clone(&group),
                members: std::mem::take(&mut state.members),
                in_group: 0,
            });
            return Err(refusal);
        }
        Ok(then(&group, &mut state))
    }

    fn enter_founder(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        user: &str,
        flags: MemberFlags,
        most: usize,
    ) -> Outcome {
        let hash = self.hash(user.as_bytes());
        if state.members.find(user.as_bytes(), hash).is_some() {
            return Ok(());
        }
        let user = self
            .users
            .enter(user, hash, group, most, |id| self.hash(id))
            .ok_or(Refusal::TooManyGroups)?;
        let at = state.add(user, hash, |id| self.hash(id));
        let created_ms = state.created.ms;
        if let Some(member) = state.members.get_mut(at) {
            member.set_joined_ms(created_ms);
        }
        state.set_flags(at, flags);
        Ok(())
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
