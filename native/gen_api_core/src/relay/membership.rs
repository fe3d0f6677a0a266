//! Users join with their devices, leave, and are remembered.

use super::group::{Group, State};
use super::index::{Outcome, Relay};
use super::member::{Standing, Status};
use super::outcome::{Joined, Left, Refusal};
use super::recipients::Device;
use super::rules::GroupType;
use crate::sync::atomic::Ordering;
use std::hash::Hash;
use std::sync::Arc;

/// More than one operation adds, so that none are left in the end.
const FORGOTTEN_AT_ONCE: usize = 64;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// A device of a user joins.
    ///
    /// # Errors
    ///
    /// `NotFound`, `AlreadyMember`, `TooManyDevices`, `Banned`, `GroupFull`, `TooManyGroups`.
    pub fn join(
        &self,
        id: &str,
        user: &str,
        device: Device<'_, H>,
        now_ms: u64,
    ) -> Outcome<Joined> {
        self.alone(id, |group, state| {
            let hash = self.hash(user.as_bytes());
            if let Some(at) = state.roster.find(user.as_bytes(), hash) {
                if let Some(member) = state.roster.get(at) {
                    member.devices.admit(device.id)?;
                }
            }
            let (at, status) = self.admit(group, state, user, now_ms)?;
            state.attach(at, device);
            let unwatched = self.devices.enter(device.id, group, at);
            Ok(Joined { status, unwatched })
        })
    }

    /// Decides as what a user is in, who joins with a device.
    pub(super) fn admit(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        user: &str,
        now_ms: u64,
    ) -> Outcome<(u32, Status)> {
        self.expire(group, state, now_ms);
        let bounds = self.bounds.load();
        let hash = self.hash(user.as_bytes());
        let known = state.roster.find(user.as_bytes(), hash);
        let member = known.and_then(|at| state.roster.get(at));
        let mut before = member.map_or_else(Standing::default, |member| member.standing);
        if before.has(Standing::GRACE) && member.is_some_and(|m| m.joined_ms() <= now_ms) {
            before = before.without(Standing::GRACE);
        }
        if let (Some(at), Some(status)) = (known, before.status()) {
            return Ok((at, status));
        }
        if before.has(Standing::BANNED) {
            return Err(Refusal::Banned);
        }
        if known.is_none() && self.is_full(group, state, now_ms) {
            return Err(Refusal::GroupFull);
        }
        let starts_over = !before.is_remembered();
        let pending = starts_over && state.kind.joins_as() == Status::Pending;
        if pending && state.pending() >= bounds.pending {
            return Err(Refusal::GroupFull);
        }
        let at = match known {
            Some(at) => at,
            None => {
                let user = self
                    .users
                    .enter(user, hash, group, bounds.groups_per_user, |id| {
                        self.hash(id)
                    })
                    .ok_or(Refusal::TooManyGroups)?;
                state.add(user, hash, |id| self.hash(id))
            }
        };
        let mut after = before.with(Standing::PRESENT).without(Standing::GRACE);
        if pending {
            after = after.with(Standing::PENDING);
        }
        if let Some(member) = state.roster.get_mut(at) {
            member.set_joined_ms(now_ms);
        }
        state.changed_ms = state.changed_ms.max(now_ms);
        state.stand(at, after);
        Ok((at, after.status().unwrap_or(Status::Pending)))
    }

    /// Forgets some of those who did not come back in time; whether there were any to look at. Not all at
    /// once: after a large group has lost its network they are as many as it has members.
    pub(super) fn expire(&self, group: &Arc<Group<H>>, state: &mut State<H>, now_ms: u64) -> bool {
        let mut any = false;
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some(at) = state.next_overdue(now_ms) else {
                break;
            };
            any = true;
            let overdue = state.roster.get(at).filter(|member| {
                member.standing.has(Standing::GRACE) && member.joined_ms() <= now_ms
            });
            if let Some((standing, version)) = overdue.map(|m| (m.standing, m.version)) {
                state.stand(at, standing.without(Standing::GRACE));
                // Every node sees to it itself: no change to be counted.
                if let Some(member) = state.roster.get_mut(at) {
                    member.version = version;
                }
                self.tidy(group, state, at);
            }
        }
        any
    }

    /// Whether there is no place for one more. Nobody whose time is over keeps one.
    pub(super) fn is_full(&self, group: &Arc<Group<H>>, state: &mut State<H>, now_ms: u64) -> bool {
        let most = self.bounds.load().members;
        while state.roster.len() >= most {
            if !self.expire(group, state, now_ms) {
                return true;
            }
        }
        false
    }

    pub(super) fn tidy(&self, group: &Arc<Group<H>>, state: &mut State<H>, at: u32) {
        if let Some(member) = state.tidy(at, |user| self.hash(user)) {
            let hash = self.hash(member.user.bytes());
            self.users.leave(&member.user, hash, group);
        }
    }

    pub(super) fn detach(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        at: u32,
        id: H,
    ) -> bool {
        let had = state.detach(at, id);
        if had {
            self.devices.leave(id, group, at);
        }
        had
    }

    pub(super) fn detach_all(&self, group: &Arc<Group<H>>, state: &mut State<H>, at: u32) {
        while let Some((id, _)) = state.roster.get(at).and_then(|m| m.devices.last()) {
            if !self.detach(group, state, at, id) {
                break;
            }
        }
    }

    /// A member is no longer in the group; what is to be remembered of him is.
    pub(super) fn depart(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        at: u32,
        died: bool,
        now_ms: u64,
    ) {
        self.expire(group, state, now_ms);
        let Some(before) = state.roster.get(at).map(|member| member.standing) else {
            return;
        };
        let mut after = before.without(Standing::PRESENT).without(Standing::PENDING);
        after = after.without(Standing::GRACE);
        let accepted = before.status() == Some(Status::Active) && !before.has(Standing::ADMIN);
        let grace = self.bounds.load().grace_ms;
        if died && grace > 0 && accepted && state.kind != GroupType::Public {
            let until = now_ms.saturating_add(grace);
            if let Some(member) = state.roster.get_mut(at) {
                member.set_joined_ms(until);
            }
            state.grant_grace(at, until);
            after = after.with(Standing::GRACE);
        }
        state.changed_ms = state.changed_ms.max(now_ms);
        state.stand(at, after);
        self.tidy(group, state, at);
    }

    /// The place and standing of somebody who is in the group.
    pub(super) fn present(&self, state: &State<H>, user: &str) -> Option<(u32, Standing)> {
        let hash = self.hash(user.as_bytes());
        let at = state.roster.find(user.as_bytes(), hash)?;
        let standing = state.roster.get(at)?.standing;
        standing.has(Standing::PRESENT).then_some((at, standing))
    }

    /// A user leaves with all devices.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`.
    pub fn leave(&self, id: &str, user: &str, now_ms: u64) -> Outcome {
        self.alone(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            self.detach_all(group, state, at);
            self.depart(group, state, at, false, now_ms);
            Ok(())
        })
    }

    /// A user leaves with one device; whether it was his last one.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`.
    pub fn leave_device(&self, id: &str, user: &str, device: H, now_ms: u64) -> Outcome<bool> {
        self.alone(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            if !self.detach(group, state, at, device) {
                return Err(Refusal::NotInGroup);
            }
            let last = state.roster.get(at).is_some_and(|m| m.devices.is_empty());
            if last {
                self.depart(group, state, at, false, now_ms);
            }
            Ok(last)
        })
    }

    /// A device has ended. Costs a step for each of its groups. Where other nodes have to agree
    /// the user stays a member, see [`Left::stays`].
    pub fn end(&self, device: H, now_ms: u64) -> Vec<Left> {
        let mut left = Vec::new();
        for (group, at) in self.devices.end(device) {
            let Some(group) = group.upgrade() else {
                continue;
            };
            let mut state = group.state.lock();
            // Somebody else's place by now, if the device was taken out in the meantime.
            if !state.detach(at, device) {
                continue;
            }
            let Some(member) = state.roster.get(at) else {
                continue;
            };
            let last = member.devices.is_empty();
            let stays = last && self.shared.load(Ordering::SeqCst);
            left.push(Left {
                group: group.id.clone(),
                user: member.user.id().into(),
                last,
                stays,
                elsewhere: stays && member.remote != 0,
            });
            if last && !stays {
                self.depart(&group, &mut state, at, true, now_ms);
            }
        }
        left
    }
}
