//! On which nodes members have devices.

use super::group::State;
use super::index::{Outcome, Relay};
use super::member::MemberFlags;
use super::outcome::Refusal;
use super::recipients::Device;
use super::yielding_lock::YieldingLock;
use std::hash::Hash;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// A device of somebody who is in the group by now; whether nobody monitors it yet.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`, `AlreadyMember`, `TooManyDevices`.
    pub fn attach(&self, id: &str, user: &str, device: Device<'_, H>) -> Outcome<bool> {
        self.with_group(id, |group, state| {
            let (at, _) = self.find_member(state, user).ok_or(Refusal::NotInGroup)?;
            if let Some(member) = state.members.get(at) {
                member.devices.admit(device.id)?;
            }
            state.attach(at, device);
            Ok(self.devices.enter(device.id, group, at))
        })
    }

    /// Takes a device out and nothing else.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`.
    pub fn detach(&self, id: &str, user: &str, device: H) -> Outcome {
        self.with_group(id, |group, state| {
            let (at, _) = self.find_member(state, user).ok_or(Refusal::NotInGroup)?;
            if self.detach_device(group, state, at, device) {
                Ok(())
            } else {
                Err(Refusal::NotInGroup)
            }
        })
    }

    /// Whether a user has devices on this node, and this one.
    pub fn has_local_device(&self, id: &str, user: &str, device: Option<H>) -> bool {
        let here = self.with_group(id, |_group, state| {
            let hash = self.hash(user.as_bytes());
            let at = state.members.find(user.as_bytes(), hash);
            let member = at.and_then(|at| state.members.get(at));
            Ok(member.is_some_and(|member| match device {
                Some(device) => member.devices.find(device).is_some(),
                None => !member.devices.is_empty(),
            }))
        });
        here.unwrap_or(false)
    }

    /// Another node has devices of a user, or has none any more.
    pub fn set_remote(&self, id: &str, user: &str, node: u32, there: bool) {
        let _ = self.with_group(id, |group, state| {
            let at = if there {
                self.find_or_add_member(group, state, user)
            } else {
                let hash = self.hash(user.as_bytes());
                state.members.find(user.as_bytes(), hash)
            };
            if let Some(at) = at {
                Self::mark_remote(state, at, node, there);
                self.prune_member(group, state, at);
            }
            Ok(())
        });
    }

    pub(super) fn mark_remote(state: &mut State<H>, at: u32, node: u32, there: bool) {
        let bit = 1 << (node & 63);
        let Some(member) = state.members.get_mut(at) else {
            return;
        };
        if (member.remote & bit != 0) == there {
            return;
        }
        member.remote ^= bit;
        let known = state
            .remote_members
            .iter()
            .position(|count| count.0 == node);
        match (known.and_then(|n| state.remote_members.get_mut(n)), there) {
            (Some(count), true) => count.1 = count.1.saturating_add(1),
            (None, true) => state.remote_members.push((node, 1)),
            (Some(count), false) => count.1 = count.1.saturating_sub(1),
            (None, false) => {}
        }
        state.remote_members.retain(|count| count.1 > 0);
    }

    /// Members without a device on any node, of which there are `nodes`, a bit each: others have
    /// none any more. Each with whether theirs were on one of those. Linear in the number of members, but
    /// nobody waits for it for long.
    pub fn offline_members(&self, id: &str, nodes: u64) -> Vec<(Box<str>, bool)> {
        let mut offline = Vec::new();
        let Some(group) = self.find(id) else {
            return offline;
        };
        let mut lock = YieldingLock::new(&group, group.state.lock());
        let mut at = 0;
        while let Some(state) = lock
            .step()
            .filter(|state| (at as usize) < state.members.end())
        {
            let gone = Self::keep_remote(state, at, nodes);
            if let Some(member) = state.members.get(at) {
                let nowhere = member.remote == 0 && member.devices.is_empty();
                if nowhere && member.flags.has(MemberFlags::IN_GROUP) {
                    offline.push((member.user.id().into(), gone));
                }
                self.prune_member(&group, state, at);
            }
            at += 1;
        }
        offline
    }

    /// Of the other nodes, only these may have devices of a member. Whether another one was noted.
    fn keep_remote(state: &mut State<H>, at: u32, nodes: u64) -> bool {
        let mut others = state
            .members
            .get(at)
            .map_or(0, |member| member.remote & !nodes);
        let any = others != 0;
        while others != 0 {
            Self::mark_remote(state, at, others.trailing_zeros(), false);
            others &= others - 1;
        }
        any
    }
}
