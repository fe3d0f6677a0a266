//! What members do to members.

use super::group::{Group, State};
use super::index::Relay;
use super::member::{MemberFlags, Status};
use super::outcome::Refusal;
use super::rules::{Action, GroupType};
use std::hash::Hash;
use std::sync::Arc;

/// What an actor does to a target.
///
/// | change | refusals after `NotFound`, in this order |
/// |---|---|
/// | `Accept` | `NotInGroup` (either), `NotAdmin`, `NotPending` |
/// | `Mute` | `NotStrictPrivate`, `NotAdmin`, `NotInGroup`, `CannotMute` |
/// | `Unmute` | `NotStrictPrivate`, `NotAdmin`, `NotInGroup`, `NotMuted` |
/// | `Kick` | `NotAdmin`, `NotInGroup`, `CannotKick` |
/// | `Ban` | `NotAdmin`, `CannotBan`, `AlreadyBanned`, `GroupFull`, `TooManyGroups` |
/// | `Unban` | `NotAdmin`, `NotBanned` |
/// | `Promote` | `NotAdmin`, `NotInGroup`, `CannotPromote`, `AlreadyAdmin` |
/// | `Demote` | `NotAdmin`, `NotInGroup`, `CannotDemote`, `LastAdmin` |
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Moderation {
    /// Makes a pending member active.
    Accept,
    /// Takes the right to send.
    Mute,
    /// Gives it back.
    Unmute,
    /// Takes somebody out, who may join again, without the admin role.
    Kick,
    /// Takes somebody out for good, or keeps somebody out who was never in.
    Ban,
    /// Lifts a ban.
    Unban,
    /// Gives the admin role.
    Promote,
    /// Takes it.
    Demote,
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Does something to a member in the name of another.
    ///
    /// # Errors
    ///
    /// See [`Moderation`].
    pub fn moderate(
        &self,
        id: &str,
        moderation: Moderation,
        actor: &str,
        target: &str,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.with_unshared_group(id, |group, state| {
            self.apply_moderation(group, state, moderation, actor, target, now_ms)
        })
    }

    pub(super) fn apply_moderation(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        moderation: Moderation,
        actor: &str,
        target: &str,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let parties = Parties {
            actor: self.find_member(state, actor),
            target: self.find_member(state, target),
            same: actor == target,
        };
        match moderation {
            Moderation::Accept => accept(state, parties),
            Moderation::Mute => mute(state, parties),
            Moderation::Unmute => unmute(state, parties),
            Moderation::Promote => promote(state, parties),
            Moderation::Demote => demote(state, parties),
            Moderation::Kick => {
                may_moderate(state, parties)?;
                let (at, flags) = parties.target.ok_or(Refusal::NotInGroup)?;
                if parties.same {
                    return Err(Refusal::CannotKick);
                }
                state.set_flags(at, flags.without(MemberFlags::ADMIN));
                self.detach_all_devices(group, state, at);
                self.mark_left(group, state, at, false, now_ms);
                Ok(())
            }
            Moderation::Ban => self.ban(group, state, parties, target, now_ms),
            Moderation::Unban => {
                may_moderate(state, parties)?;
                let at = self.known(state, target).ok_or(Refusal::NotBanned)?;
                let flags = state.members.get(at).map(|member| member.flags);
                let flags = flags
                    .filter(|flags| flags.has(MemberFlags::BANNED))
                    .ok_or(Refusal::NotBanned)?;
                state.set_flags(at, flags.without(MemberFlags::BANNED));
                self.prune_member(group, state, at);
                Ok(())
            }
        }?;
        state.changed_ms = state.changed_ms.max(now_ms);
        Ok(())
    }

    fn known(&self, state: &State<H>, user: &str) -> Option<u32> {
        state
            .members
            .find(user.as_bytes(), self.hash(user.as_bytes()))
    }

    fn ban(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        parties: Parties,
        target: &str,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        may_moderate(state, parties)?;
        if parties.same {
            return Err(Refusal::CannotBan);
        }
        let at = match self.known(state, target) {
            Some(at) => at,
            None => {
                if self.is_full(group, state, now_ms) {
                    return Err(Refusal::GroupFull);
                }
                let hash = self.hash(target.as_bytes());
                let most = self.bounds.load().groups_per_user;
                let user = self
                    .users
                    .enter(target, hash, group, most, |id| self.hash(id))
                    .ok_or(Refusal::TooManyGroups)?;
                state.add(user, hash, |id| self.hash(id))
            }
        };
        let before = state
            .members
            .get(at)
            .map_or_else(MemberFlags::default, |member| member.flags);
        if before.has(MemberFlags::BANNED) {
            return Err(Refusal::AlreadyBanned);
        }
        let after = before.with(MemberFlags::BANNED).without(MemberFlags::ADMIN);
        state.set_flags(at, after.without(MemberFlags::GRACE));
        self.detach_all_devices(group, state, at);
        self.mark_left(group, state, at, false, now_ms);
        Ok(())
    }
}

/// For operations that do something to a member: who, to whom.
#[derive(Copy, Clone, Debug)]
struct Parties {
    actor: Option<(u32, MemberFlags)>,
    target: Option<(u32, MemberFlags)>,
    same: bool,
}

fn may<H: Copy + Eq>(state: &State<H>, parties: Parties, action: Action) -> Result<(), Refusal> {
    let flags = parties.actor.map(|(_, flags)| flags);
    let allowed = flags.and_then(|flags| {
        let status = flags.status()?;
        let admin = flags.has(MemberFlags::ADMIN);
        Some(state.kind.allows(action, status, admin))
    });
    if allowed == Some(true) {
        Ok(())
    } else {
        Err(Refusal::NotAdmin)
    }
}

fn may_moderate<H: Copy + Eq>(state: &State<H>, parties: Parties) -> Result<(), Refusal> {
    may(state, parties, Action::Moderate)
}

fn accept<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    parties.actor.ok_or(Refusal::NotInGroup)?;
    let (at, flags) = parties.target.ok_or(Refusal::NotInGroup)?;
    may(state, parties, Action::Accept)?;
    if flags.status() != Some(Status::Pending) {
        return Err(Refusal::NotPending);
    }
    state.set_flags(at, flags.without(MemberFlags::PENDING));
    Ok(())
}

fn mute<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    may_mute(state, parties)?;
    let (at, flags) = parties.target.ok_or(Refusal::NotInGroup)?;
    if parties.same || flags.status() != Some(Status::Active) {
        return Err(Refusal::CannotMute);
    }
    state.set_flags(at, flags.with(MemberFlags::MUTED));
    Ok(())
}

fn unmute<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    may_mute(state, parties)?;
    let (at, flags) = parties.target.ok_or(Refusal::NotInGroup)?;
    if flags.status() != Some(Status::Muted) {
        return Err(Refusal::NotMuted);
    }
    state.set_flags(at, flags.without(MemberFlags::MUTED));
    Ok(())
}

fn may_mute<H: Copy + Eq>(state: &State<H>, parties: Parties) -> Result<(), Refusal> {
    if !GroupType::knows(state.kind, Action::Mute) {
        return Err(Refusal::NotStrictPrivate);
    }
    may(state, parties, Action::Mute)
}

fn promote<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    may_moderate(state, parties)?;
    let (at, flags) = parties.target.ok_or(Refusal::NotInGroup)?;
    if flags.status() != Some(Status::Active) {
        return Err(Refusal::CannotPromote);
    }
    if flags.has(MemberFlags::ADMIN) {
        return Err(Refusal::AlreadyAdmin);
    }
    state.set_flags(at, flags.with(MemberFlags::ADMIN));
    Ok(())
}

fn demote<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    may_moderate(state, parties)?;
    let (at, flags) = parties.target.ok_or(Refusal::NotInGroup)?;
    if !flags.has(MemberFlags::ADMIN) {
        return Err(Refusal::CannotDemote);
    }
    if state.admins <= 1 {
        return Err(Refusal::LastAdmin);
    }
    state.set_flags(at, flags.without(MemberFlags::ADMIN));
    Ok(())
}
