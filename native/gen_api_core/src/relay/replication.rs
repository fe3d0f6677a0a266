//! Records that other nodes have made are copied.

use super::group::{Group, State};
use super::index::Relay;
use super::member::MemberFlags;
use super::outcome::Refusal;
use super::record::{Origin, Record};
use crate::sync::MutexGuard;
use std::hash::Hash;
use std::sync::Arc;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Copies a record that another node has made, and the group if it is not known. With
    /// `evict` all devices of the user are taken out; whether there were any.
    pub fn put(&self, id: &str, origin: Origin, record: &Record, evict: bool) -> bool {
        let had = self.with_group_or_new(id, origin, |group, mut state| {
            let state = &mut *state;
            state.changed_ms = state.changed_ms.max(origin.changed_ms);
            self.expire(group, state, origin.changed_ms);
            let at = self.find_or_add_member(group, state, &record.user)?;
            let known = state.members.get(at).map(|m| (m.version, m.flags.bits()));
            let newer = known.is_none_or(|known| (record.version, record.flags.bits()) > known);
            if newer {
                Self::apply_record(state, at, record);
            }
            let had = state.members.get(at).is_some_and(|m| !m.devices.is_empty());
            if evict {
                self.detach_all_devices(group, state, at);
            }
            self.prune_member(group, state, at);
            Some(had)
        });
        evict && had.flatten() == Some(true)
    }

    /// Does something to the group of that name, which is there and locked.
    pub(super) fn with_group_or_new<T>(
        &self,
        id: &str,
        origin: Origin,
        act: impl FnOnce(&Arc<Group<H>>, MutexGuard<'_, State<H>>) -> T,
    ) -> Option<T> {
        loop {
            if let Some(group) = self.find(id) {
                let state = group.state.lock();
                if !state.deleted {
                    return Some(act(&group, state));
                }
                // It has left the index: the next look finds none.
            }
            let group = Arc::new(Group::new(id, origin.kind, origin.created));
            let state = group.state.lock();
            match self.insert_group(&group, usize::MAX, true) {
                Ok(()) => return Some(act(&group, state)),
                Err(Refusal::AlreadyExists) => {}
                Err(_) => return None,
            }
        }
    }

    pub(super) fn find_or_add_member(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        user: &str,
    ) -> Option<u32> {
        let hash = self.hash(user.as_bytes());
        let known = state.members.find(user.as_bytes(), hash);
        known.or_else(|| {
            // Whoever decided has counted already.
            let user = self
                .users
                .enter(user, hash, group, usize::MAX, |id| self.hash(id))?;
            Some(state.add(user, hash, |id| self.hash(id)))
        })
    }

    pub(super) fn apply_record(state: &mut State<H>, at: u32, record: &Record) {
        state.set_flags(at, record.flags);
        state.clock = state.clock.max(record.version);
        if let Some(member) = state.members.get_mut(at) {
            member.version = record.version;
            member.set_joined_ms(record.joined_ms);
        }
        if record.flags.has(MemberFlags::GRACE) {
            state.grant_grace(at, record.joined_ms);
        }
    }
}
