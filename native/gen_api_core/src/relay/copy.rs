//! Records that other nodes have made are copied.

use super::group::{Group, State};
use super::index::Relay;
use super::member::Standing;
use super::outcome::Refusal;
use super::share::{Origin, Record};
use std::hash::Hash;
use std::sync::Arc;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Copies a record that another node has made, and the group if it is not known. With
    /// `evict` all devices of the user are taken out; whether there were any.
    pub fn put(&self, id: &str, origin: Origin, record: &Record, evict: bool) -> bool {
        let had = self.with_new(id, origin, |group, state| {
            state.changed_ms = state.changed_ms.max(origin.changed_ms);
            self.expire(group, state, origin.changed_ms);
            let at = self.place(group, state, &record.user)?;
            let known = state.roster.get(at).map(|m| (m.version, m.standing.bits()));
            let newer = known.is_none_or(|known| (record.version, record.standing.bits()) > known);
            if newer {
                Self::copy(state, at, record);
            }
            let had = state.roster.get(at).is_some_and(|m| !m.devices.is_empty());
            if evict {
                self.detach_all(group, state, at);
            }
            self.tidy(group, state, at);
            Some(had)
        });
        evict && had.flatten() == Some(true)
    }

    /// Does something to the group of that name, which is there afterwards.
    pub(super) fn with_new<T>(
        &self,
        id: &str,
        origin: Origin,
        act: impl FnOnce(&Arc<Group<H>>, &mut State<H>) -> T,
    ) -> Option<T> {
        loop {
            if let Some(group) = self.find(id) {
                let mut state = group.state.lock();
                if !state.deleted {
                    return Some(act(&group, &mut state));
                }
                // It has left the index: the next look finds none.
            }
            let group = Arc::new(Group::new(id, origin.kind, origin.created));
            let mut state = group.state.lock();
            match self.publish_group(&group, usize::MAX, true) {
                Ok(()) => return Some(act(&group, &mut state)),
                Err(Refusal::AlreadyExists) => {}
                Err(_) => return None,
            }
        }
    }

    pub(super) fn place(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        user: &str,
    ) -> Option<u32> {
        let hash = self.hash(user.as_bytes());
        let known = state.roster.find(user.as_bytes(), hash);
        known.or_else(|| {
            // Whoever decided has counted already.
            let user = self
                .users
                .enter(user, hash, group, usize::MAX, |id| self.hash(id))?;
            Some(state.add(user, hash, |id| self.hash(id)))
        })
    }

    pub(super) fn copy(state: &mut State<H>, at: u32, record: &Record) {
        state.stand(at, record.standing);
        state.clock = state.clock.max(record.version);
        if let Some(member) = state.roster.get_mut(at) {
            member.version = record.version;
            member.set_joined_ms(record.joined_ms);
        }
        if record.standing.has(Standing::GRACE) {
            state.grant_grace(at, record.joined_ms);
        }
    }
}
