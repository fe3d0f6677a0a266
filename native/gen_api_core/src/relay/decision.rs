//! Changes on which one node decides for all that hold the group.

use super::group::Created;
use super::index::{Outcome, Relay};
use super::member::Status;
use super::moderation::Moderation;
use super::outcome::Refusal;
use super::record::{Origin, Record};
use super::rules::GroupType;
use std::hash::Hash;

impl<H: Copy + Eq + Hash> Relay<H> {
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
        self.create_group(id, kind, user, created, true, |_group, state, _at| {
            (Self::origin_of(state), self.record(state, user))
        })
    }

    /// Deletes a group.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn order_delete(&self, id: &str) -> Outcome<usize> {
        let deleted = self.with_group(id, |group, state| Ok(self.unlist(group, state)))?;
        Ok(self.remove_members(deleted))
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
        self.with_group(id, |group, state| {
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
        self.with_group(id, |group, state| {
            let (at, _) = self.find_member(state, user).ok_or(Refusal::NotInGroup)?;
            self.detach_all_devices(group, state, at);
            self.mark_left(group, state, at, false, now_ms);
            Ok((Self::origin_of(state), self.record(state, user)))
        })
    }

    /// Does something to a member in the name of another.
    ///
    /// # Errors
    ///
    /// As [`Relay::moderate`].
    pub fn order_change(
        &self,
        id: &str,
        moderation: Moderation,
        actor: &str,
        target: &str,
        now_ms: u64,
    ) -> Outcome<(Origin, Record)> {
        self.with_group(id, |group, state| {
            self.apply_moderation(group, state, moderation, actor, target, now_ms)?;
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
        self.with_group(id, |group, state| {
            let (at, _) = self.find_member(state, user).ok_or(Refusal::NotInGroup)?;
            let here = state
                .members
                .get(at)
                .is_some_and(|member| member.remote != 0 || !member.devices.is_empty());
            if here {
                return Err(Refusal::AlreadyMember);
            }
            self.mark_left(group, state, at, died, now_ms);
            Ok((Self::origin_of(state), self.record(state, user)))
        })
    }
}
