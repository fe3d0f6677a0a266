//! Users join with their devices, leave, and are remembered.

use super::group::{Group, State};
use super::index::{Outcome, Relay};
use super::member::{MemberFlags, Status};
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
        self.with_unshared_group(id, |group, state| {
            let hash = self.hash(user.as_bytes());
            if let Some(at) = state.members.find(user.as_bytes(), hash) {
                if let Some(member) = state.members.get(at) {
                    member.devices.admit(device.id)?;
                }
            }
            let (at, status) = self.admit(group, state, user, now_ms)?;
            state.attach(at, device);
            let unmonitored = self.devices.enter(device.id, group, at);
            Ok(Joined {
                status,
                unmonitored,
            })
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
        let known = state.members.find(user.as_bytes(), hash);
        let member = known.and_then(|at| state.members.get(at));
        let mut before = member.map_or_else(MemberFlags::default, |member| member.flags);
        if before.has(MemberFlags::GRACE) && member.is_some_and(|m| m.joined_ms() <= now_ms) {
            before = before.without(MemberFlags::GRACE);
        }
        if let (Some(at), Some(status)) = (known, before.status()) {
            return Ok((at, status));
        }
        if before.has(MemberFlags::BANNED) {
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
        let mut after = before
            .with(MemberFlags::IN_GROUP)
            .without(MemberFlags::GRACE);
        if pending {
            after = after.with(MemberFlags::PENDING);
        }
        if let Some(member) = state.members.get_mut(at) {
            member.set_joined_ms(now_ms);
        }
        state.changed_ms = state.changed_ms.max(now_ms);
        state.set_flags(at, after);
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
            let overdue = state.members.get(at).filter(|member| {
                member.flags.has(MemberFlags::GRACE) && member.joined_ms() <= now_ms
            });
            if let Some((flags, version)) = overdue.map(|m| (m.flags, m.version)) {
                state.set_flags(at, flags.without(MemberFlags::GRACE));
                // Every node sees to it itself: no change to be counted.
                if let Some(member) = state.members.get_mut(at) {
                    member.version = version;
                }
                self.prune_member(group, state, at);
            }
        }
        any
    }

    /// Whether there is no place for one more. Nobody whose time is over keeps one.
    pub(super) fn is_full(&self, group: &Arc<Group<H>>, state: &mut State<H>, now_ms: u64) -> bool {
        let most = self.bounds.load().members;
        while state.members.len() >= most {
            if !self.expire(group, state, now_ms) {
                return true;
            }
        }
        false
    }

    pub(super) fn prune_member(&self, group: &Arc<Group<H>>, state: &mut State<H>, at: u32) {
        if let Some(member) = state.prune_member(at, |user| self.hash(user)) {
            let hash = self.hash(member.user.bytes());
            self.users.leave(&member.user, hash, group);
        }
    }

    pub(super) fn detach_device(
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

    pub(super) fn detach_all_devices(&self, group: &Arc<Group<H>>, state: &mut State<H>, at: u32) {
        while let Some((id, _)) = state.members.get(at).and_then(|m| m.devices.last()) {
            if !self.detach_device(group, state, at, id) {
                break;
            }
        }
    }

    /// A member is no longer in the group; what has to be remembered of them is.
    pub(super) fn mark_left(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        at: u32,
        died: bool,
        now_ms: u64,
    ) {
        self.expire(group, state, now_ms);
        let Some(before) = state.members.get(at).map(|member| member.flags) else {
            return;
        };
        let mut after = before
            .without(MemberFlags::IN_GROUP)
            .without(MemberFlags::PENDING);
        after = after.without(MemberFlags::GRACE);
        let accepted = before.status() == Some(Status::Active) && !before.has(MemberFlags::ADMIN);
        let grace = self.bounds.load().grace_ms;
        if died && grace > 0 && accepted && state.kind != GroupType::Public {
            let until = now_ms.saturating_add(grace);
            if let Some(member) = state.members.get_mut(at) {
                member.set_joined_ms(until);
            }
            state.grant_grace(at, until);
            after = after.with(MemberFlags::GRACE);
        }
        // Nobody has wanted a change when a process or a node was lost: it does not make the group newer than
        // its deletion on the other side of a split.
        if !died {
            state.changed_ms = state.changed_ms.max(now_ms);
        }
        state.set_flags(at, after);
        self.prune_member(group, state, at);
    }

    /// The place and flags of somebody who is in the group.
    pub(super) fn find_member(&self, state: &State<H>, user: &str) -> Option<(u32, MemberFlags)> {
        let hash = self.hash(user.as_bytes());
        let at = state.members.find(user.as_bytes(), hash)?;
        let flags = state.members.get(at)?.flags;
        flags.has(MemberFlags::IN_GROUP).then_some((at, flags))
    }

    /// A user leaves with all devices.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`.
    pub fn leave(&self, id: &str, user: &str, now_ms: u64) -> Outcome {
        self.with_unshared_group(id, |group, state| {
            self.remove_user(group, state, user, now_ms)
        })
    }

    /// A user leaves, and so do all devices here.
    pub(super) fn remove_user(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        user: &str,
        now_ms: u64,
    ) -> Outcome {
        let (at, _) = self.find_member(state, user).ok_or(Refusal::NotInGroup)?;
        self.detach_all_devices(group, state, at);
        self.mark_left(group, state, at, false, now_ms);
        Ok(())
    }

    /// A user leaves with one device; whether it was the last one.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`.
    pub fn leave_device(&self, id: &str, user: &str, device: H, now_ms: u64) -> Outcome<bool> {
        self.with_unshared_group(id, |group, state| {
            let (at, _) = self.find_member(state, user).ok_or(Refusal::NotInGroup)?;
            if !self.detach_device(group, state, at, device) {
                return Err(Refusal::NotInGroup);
            }
            let last = state.members.get(at).is_some_and(|m| m.devices.is_empty());
            if last {
                self.mark_left(group, state, at, false, now_ms);
            }
            Ok(last)
        })
    }

    /// A device has ended. Costs a step for each of its groups. Where other nodes have to agree
    /// the user stays a member, see [`Left::stays`].
    pub fn remove_device(&self, device: H, now_ms: u64) -> Vec<Left> {
        let mut left = Vec::new();
        for (group, at) in self.devices.remove(device) {
            let Some(group) = group.upgrade() else {
                continue;
            };
            let mut state = group.state.lock();
            // Somebody else's place by now, if the device was taken out in the meantime.
            if !state.detach(at, device) {
                continue;
            }
            let Some(member) = state.members.get(at) else {
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
                self.mark_left(&group, &mut state, at, true, now_ms);
            }
        }
        left
    }
}
