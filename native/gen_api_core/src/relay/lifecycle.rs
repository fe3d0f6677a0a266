//! Groups are created and deleted.

use super::group::{Created, Group, State};
use super::index::{Outcome, Relay};
use super::member::Standing;
use super::outcome::Refusal;
use super::recipients::Device;
use super::roster::Roster;
use super::rules::GroupType;
use crate::sync::atomic::Ordering;
use std::hash::Hash;
use std::sync::Arc;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Creates a group with its first member, an active admin. The result says whether nobody
    /// watches the device yet.
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
        self.found(id, kind, user, created, false, |group, state, at| {
            state.attach(at, device);
            self.devices.enter(device.id, group, at)
        })
    }

    /// A new group with its first member, of whom `then` gets the place before anybody else can have
    /// him leave. Unless it is `ordered`, other nodes need not agree.
    pub(super) fn found<T>(
        &self,
        id: &str,
        kind: GroupType,
        user: &str,
        created: Created,
        ordered: bool,
        then: impl FnOnce(&Arc<Group<H>>, &mut State<H>, u32) -> T,
    ) -> Outcome<T> {
        let bounds = self.bounds.load();
        if self.find(id).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        if !ordered {
            self.unshared()?;
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
        if let Some(member) = state.roster.get_mut(at) {
            member.set_joined_ms(created.ms);
        }
        state.stand(at, Standing::PRESENT.with(Standing::ADMIN));
        if let Err(refusal) = self.publish_group(&group, bounds.groups, ordered) {
            state.deleted = true;
            self.users.leave(&leave, hash, &group);
            return Err(refusal);
        }
        Ok(then(&group, &mut state, at))
    }

    /// Makes a new group known to all.
    pub(super) fn publish_group(
        &self,
        group: &Arc<Group<H>>,
        most: usize,
        ordered: bool,
    ) -> Outcome {
        let hash = self.hash(group.id.as_bytes());
        let Some(shard) = self.shard(hash) else {
            return Err(Refusal::TooManyGroups);
        };
        let mut shard = shard.write();
        if shard.find(hash, |other| other.id == group.id).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        if !ordered {
            // Again, where somebody who copies all groups has not looked yet or does see it.
            self.unshared()?;
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
        self.alone(id, |group, state| Ok(self.dissolve(group, state)))
    }

    pub(super) fn dissolve(&self, group: &Arc<Group<H>>, state: &mut State<H>) -> usize {
        state.deleted = true;
        let hash = self.hash(group.id.as_bytes());
        if let Some(shard) = self.shard(hash) {
            let mut shard = shard.write();
            if let Ok(entry) = shard.find_entry(hash, |other| Arc::ptr_eq(other, group)) {
                entry.remove();
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let present = state.present;
        for at in 0..state.roster.end() as u32 {
            let Some(member) = state.roster.get(at) else {
                continue;
            };
            for n in 0..member.devices.len() {
                if let Some((id, _)) = member.devices.get(n) {
                    self.devices.leave(id, group, at);
                }
            }
            let hash = self.hash(member.user.bytes());
            self.users.leave(&member.user, hash, group);
        }
        state.roster = Roster::default();
        present
    }
}
