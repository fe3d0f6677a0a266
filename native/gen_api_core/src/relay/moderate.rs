//! What members do to members.

use super::group::{Group, State};
use super::index::Relay;
use super::member::{Standing, Status};
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
pub enum Change {
    /// Makes a pending member active.
    Accept,
    /// Takes the right to send.
    Mute,
    /// Gives it back.
    Unmute,
    /// Takes somebody out; he may join again, without the admin role.
    Kick,
    /// Takes somebody out for good, or keeps somebody out who was never in.
    Ban,
    /// Lets him join again.
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
    /// See [`Change`].
    pub fn change(
        &self,
        id: &str,
        change: Change,
        actor: &str,
        target: &str,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        self.alone(id, |group, state| {
            self.changed(group, state, change, actor, target, now_ms)
        })
    }

    pub(super) fn changed(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        change: Change,
        actor: &str,
        target: &str,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let parties = Parties {
            actor: self.present(state, actor),
            target: self.present(state, target),
            same: actor == target,
        };
        match change {
            Change::Accept => accept(state, parties),
            Change::Mute => mute(state, parties),
            Change::Unmute => unmute(state, parties),
            Change::Promote => promote(state, parties),
            Change::Demote => demote(state, parties),
            Change::Kick => {
                moderates(state, parties)?;
                let (at, standing) = parties.target.ok_or(Refusal::NotInGroup)?;
                if parties.same {
                    return Err(Refusal::CannotKick);
                }
                state.stand(at, standing.without(Standing::ADMIN));
                self.detach_all(group, state, at);
                self.depart(group, state, at, false, now_ms);
                Ok(())
            }
            Change::Ban => self.ban(group, state, parties, target, now_ms),
            Change::Unban => {
                moderates(state, parties)?;
                let at = self.known(state, target).ok_or(Refusal::NotBanned)?;
                let standing = state.roster.get(at).map(|member| member.standing);
                let standing = standing
                    .filter(|standing| standing.has(Standing::BANNED))
                    .ok_or(Refusal::NotBanned)?;
                state.stand(at, standing.without(Standing::BANNED));
                self.tidy(group, state, at);
                Ok(())
            }
        }?;
        state.changed_ms = state.changed_ms.max(now_ms);
        Ok(())
    }

    fn known(&self, state: &State<H>, user: &str) -> Option<u32> {
        state
            .roster
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
        moderates(state, parties)?;
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
            .roster
            .get(at)
            .map_or_else(Standing::default, |member| member.standing);
        if before.has(Standing::BANNED) {
            return Err(Refusal::AlreadyBanned);
        }
        let after = before.with(Standing::BANNED).without(Standing::ADMIN);
        state.stand(at, after.without(Standing::GRACE));
        self.detach_all(group, state, at);
        self.depart(group, state, at, false, now_ms);
        Ok(())
    }
}

/// For operations that do something to a member: who, to whom.
#[derive(Copy, Clone, Debug)]
struct Parties {
    actor: Option<(u32, Standing)>,
    target: Option<(u32, Standing)>,
    same: bool,
}

fn may<H: Copy + Eq>(state: &State<H>, parties: Parties, action: Action) -> Result<(), Refusal> {
    let standing = parties.actor.map(|(_, standing)| standing);
    let allowed = standing.and_then(|standing| {
        let status = standing.status()?;
        let admin = standing.has(Standing::ADMIN);
        Some(state.kind.allows(action, status, admin))
    });
    if allowed == Some(true) {
        Ok(())
    } else {
        Err(Refusal::NotAdmin)
    }
}

fn moderates<H: Copy + Eq>(state: &State<H>, parties: Parties) -> Result<(), Refusal> {
    may(state, parties, Action::Moderate)
}

fn accept<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    parties.actor.ok_or(Refusal::NotInGroup)?;
    let (at, standing) = parties.target.ok_or(Refusal::NotInGroup)?;
    may(state, parties, Action::Accept)?;
    if standing.status() != Some(Status::Pending) {
        return Err(Refusal::NotPending);
    }
    state.stand(at, standing.without(Standing::PENDING));
    Ok(())
}

fn mute<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    mutes(state, parties)?;
    let (at, standing) = parties.target.ok_or(Refusal::NotInGroup)?;
    if parties.same || standing.status() != Some(Status::Active) {
        return Err(Refusal::CannotMute);
    }
    state.stand(at, standing.with(Standing::MUTED));
    Ok(())
}

fn unmute<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    mutes(state, parties)?;
    let (at, standing) = parties.target.ok_or(Refusal::NotInGroup)?;
    if standing.status() != Some(Status::Muted) {
        return Err(Refusal::NotMuted);
    }
    state.stand(at, standing.without(Standing::MUTED));
    Ok(())
}

fn mutes<H: Copy + Eq>(state: &State<H>, parties: Parties) -> Result<(), Refusal> {
    if !GroupType::knows(state.kind, Action::Mute) {
        return Err(Refusal::NotStrictPrivate);
    }
    may(state, parties, Action::Mute)
}

fn promote<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    moderates(state, parties)?;
    let (at, standing) = parties.target.ok_or(Refusal::NotInGroup)?;
    if standing.status() != Some(Status::Active) {
        return Err(Refusal::CannotPromote);
    }
    if standing.has(Standing::ADMIN) {
        return Err(Refusal::AlreadyAdmin);
    }
    state.stand(at, standing.with(Standing::ADMIN));
    Ok(())
}

fn demote<H: Copy + Eq>(state: &mut State<H>, parties: Parties) -> Result<(), Refusal> {
    moderates(state, parties)?;
    let (at, standing) = parties.target.ok_or(Refusal::NotInGroup)?;
    if !standing.has(Standing::ADMIN) {
        return Err(Refusal::CannotDemote);
    }
    if state.admins <= 1 {
        return Err(Refusal::LastAdmin);
    }
    state.stand(at, standing.without(Standing::ADMIN));
    Ok(())
}
