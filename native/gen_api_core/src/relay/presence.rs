//! On which nodes members have devices.

use super::group::State;
use super::index::{Outcome, Relay};
use super::member::Standing;
use super::outcome::Refusal;
use super::recipients::Device;
use super::turns::Turns;
use std::hash::Hash;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// A device of somebody who is in the group by now; whether nobody watches it yet.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`, `AlreadyMember`, `TooManyDevices`.
    pub fn attach(&self, id: &str, user: &str, device: Device<'_, H>) -> Outcome<bool> {
        self.with(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            if let Some(member) = state.roster.get(at) {
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
    pub fn release(&self, id: &str, user: &str, device: H) -> Outcome {
        self.with(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            if self.detach(group, state, at, device) {
                Ok(())
            } else {
                Err(Refusal::NotInGroup)
            }
        })
    }

    /// Whether a user has devices on this node, and this one.
    pub fn is_here(&self, id: &str, user: &str, device: Option<H>) -> bool {
        let here = self.with(id, |_group, state| {
            let hash = self.hash(user.as_bytes());
            let at = state.roster.find(user.as_bytes(), hash);
            let member = at.and_then(|at| state.roster.get(at));
            Ok(member.is_some_and(|member| match device {
                Some(device) => member.devices.find(device).is_some(),
                None => !member.devices.is_empty(),
            }))
        });
        here.unwrap_or(false)
    }

    /// Another node has devices of a user, or has none any more.
    pub fn set_remote(&self, id: &str, user: &str, node: u32, there: bool) {
        let _ = self.with(id, |group, state| {
            let at = if there {
                self.place(group, state, user)
            } else {
                let hash = self.hash(user.as_bytes());
                state.roster.find(user.as_bytes(), hash)
            };
            if let Some(at) = at {
                Self::mark(state, at, node, there);
                self.tidy(group, state, at);
            }
            Ok(())
        });
    }

    pub(super) fn mark(state: &mut State<H>, at: u32, node: u32, there: bool) {
        let bit = 1 << (node & 63);
        let Some(member) = state.roster.get_mut(at) else {
            return;
        };
        if (member.remote & bit != 0) == there {
            return;
        }
        member.remote ^= bit;
        let known = state.elsewhere.iter().position(|count| count.0 == node);
        match (known.and_then(|n| state.elsewhere.get_mut(n)), there) {
            (Some(count), true) => count.1 = count.1.saturating_add(1),
            (None, true) => state.elsewhere.push((node, 1)),
            (Some(count), false) => count.1 = count.1.saturating_sub(1),
            (None, false) => {}
        }
        state.elsewhere.retain(|count| count.1 > 0);
    }

    /// Members without a device on any node, of which there are `nodes`, a bit each: others have
    /// none any more. Each with whether his were on one of those. Linear in the number of members, but
    /// nobody waits for it for long.
    pub fn absent(&self, id: &str, nodes: u64) -> Vec<(Box<str>, bool)> {
        let mut absent = Vec::new();
        let Some(group) = self.find(id) else {
            return absent;
        };
        let mut turns = Turns::new(&group, group.state.lock());
        let mut at = 0;
        while let Some(state) = turns
            .next()
            .filter(|state| (at as usize) < state.roster.end())
        {
            let gone = Self::mark_only(state, at, nodes);
            if let Some(member) = state.roster.get(at) {
                let nowhere = member.remote == 0 && member.devices.is_empty();
                if nowhere && member.standing.has(Standing::PRESENT) {
                    absent.push((member.user.id().into(), gone));
                }
                self.tidy(&group, state, at);
            }
            at += 1;
        }
        absent
    }

    /// Of the other nodes, only these may have devices of a member. Whether another one was noted.
    fn mark_only(state: &mut State<H>, at: u32, nodes: u64) -> bool {
        let mut others = state
            .roster
            .get(at)
            .map_or(0, |member| member.remote & !nodes);
        let any = others != 0;
        while others != 0 {
            Self::mark(state, at, others.trailing_zeros(), false);
            others &= others - 1;
        }
        any
    }
}
