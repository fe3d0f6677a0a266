//! Changes on which one node decides for all that hold the group.

use super::group::{Created, State};
use super::index::{Outcome, Relay};
use super::lifecycle::CREATOR;
use super::moderation::Moderation;
use super::outcome::Refusal;
use super::record::{Origin, Record};
use super::rules::GroupType;
use std::hash::Hash;

/// A change of one group and one user in it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Command<'c> {
    /// Creates the group; its creator has no device yet. Refused as [`Relay::create`] is.
    Create {
        /// The type of the group.
        kind: GroupType,
        /// The creator.
        user: &'c str,
        /// When and where.
        created: Created,
    },
    /// A user joins; the device follows. Refused as [`Relay::join`] is.
    Join {
        /// The user.
        user: &'c str,
    },
    /// A user leaves with all devices. Refused as [`Relay::leave`] is.
    Leave {
        /// The user.
        user: &'c str,
    },
    /// A member leaves who has no device on any node. Refused with `NotFound`, `NotInGroup`, and `AlreadyMember`
    /// if there is a device.
    LeaveIfOffline {
        /// The user.
        user: &'c str,
        /// Whether the last device exited, rather than left.
        died: bool,
    },
    /// A member does something to another. Refused as [`Relay::moderate`] is.
    Moderate {
        /// What.
        moderation: Moderation,
        /// Who does it.
        actor: &'c str,
        /// To whom.
        target: &'c str,
    },
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Makes a change for all nodes: what the others have to copy.
    ///
    /// # Errors
    ///
    /// See [`Command`].
    pub fn decide(&self, id: &str, command: Command<'_>, now_ms: u64) -> Outcome<(Origin, Record)> {
        let records =
            |state: &State<H>, user: &str| (Self::origin_of(state), self.record(state, user));
        match command {
            Command::Create {
                kind,
                user,
                created,
            } => {
                let creator = [(user, CREATOR)];
                self.create_group(id, kind, &creator, created, true, |_group, state| {
                    records(state, user)
                })
            }
            Command::Join { user } => self.with_group(id, |group, state| {
                self.admit(group, state, user, now_ms)?;
                Ok(records(state, user))
            }),
            Command::Leave { user } => self.with_group(id, |group, state| {
                self.remove_user(group, state, user, now_ms)?;
                Ok(records(state, user))
            }),
            Command::LeaveIfOffline { user, died } => self.with_group(id, |group, state| {
                let (at, _) = self.find_member(state, user).ok_or(Refusal::NotInGroup)?;
                let member = state.members.get(at);
                if member.is_some_and(|member| member.remote != 0 || !member.devices.is_empty()) {
                    return Err(Refusal::AlreadyMember);
                }
                self.mark_left(group, state, at, died, now_ms);
                Ok(records(state, user))
            }),
            Command::Moderate {
                moderation,
                actor,
                target,
            } => self.with_group(id, |group, state| {
                self.apply_moderation(group, state, moderation, actor, target, now_ms)?;
                Ok(records(state, target))
            }),
        }
    }

    /// Deletes a group on all nodes; how many members were in it.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn decide_delete(&self, id: &str) -> Outcome<usize> {
        let deleted = self.with_group(id, |group, state| Ok(self.unlist(group, state)))?;
        Ok(self.remove_members(deleted))
    }
}
