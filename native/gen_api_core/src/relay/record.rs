//! Groups that several nodes hold: what they tell each other of one.
//!
//! Every node has a record of every member of every group, and devices of its own only; of the
//! other nodes it knows which have devices of a member, a bit for each. One node at a time
//! decides on changes ([`Relay::decide`]), the others copy the records that come of it ([`Relay::put`]).
//! Nodes that find each other unite what they have ([`Relay::merge`]).

use super::group::{Created, State};
use super::index::{Outcome, Relay};
use super::member::{Member, MemberFlags};
use super::outcome::Page;
use super::rules::GroupType;
use crate::sync::atomic::Ordering;
use std::hash::Hash;

/// What all nodes know of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The user.
    pub user: Box<str>,
    /// The status and role.
    pub flags: MemberFlags,
    /// Which change of the group this is.
    pub version: u32,
    /// When the user joined.
    pub joined_ms: u64,
}

/// What all nodes know of a group itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The type.
    pub kind: GroupType,
    /// When and where it was created.
    pub created: Created,
    /// When it last changed.
    pub changed_ms: u64,
}

impl Record {
    fn of<H>(member: &Member<H>) -> Self {
        Self {
            user: member.user.id().into(),
            flags: member.flags,
            version: member.version,
            joined_ms: member.joined_ms(),
        }
    }
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Whether other nodes have to agree to changes: then all but [`Relay::decide`] refuses them with `Shared`.
    /// Whoever reads a group after setting this sees all changes that were made without it.
    pub fn set_shared(&self, shared: bool) {
        self.shared.store(shared, Ordering::SeqCst);
    }

    /// What was set.
    pub fn is_shared(&self) -> bool {
        self.shared.load(Ordering::SeqCst)
    }

    /// The names of all groups.
    pub fn ids(&self) -> Vec<Box<str>> {
        self.all().map(|group| group.id.clone()).collect()
    }

    pub(super) fn record(&self, state: &State<H>, user: &str) -> Record {
        let at = state
            .members
            .find(user.as_bytes(), self.hash(user.as_bytes()));
        // Somebody who was forgotten just now, by the last change.
        let forgotten = || Record {
            user: user.into(),
            flags: MemberFlags::default(),
            version: state.clock,
            joined_ms: 0,
        };
        at.and_then(|at| state.members.get(at))
            .map_or_else(forgotten, Record::of)
    }

    pub(super) fn origin_of(state: &State<H>) -> Origin {
        Origin {
            kind: state.kind,
            created: state.created,
            changed_ms: state.changed_ms,
        }
    }

    /// How a user stands in a group; of one who is not known: as after the latest change.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn record_of(&self, id: &str, user: &str) -> Outcome<(Origin, Record)> {
        self.with_group(id, |_group, state| {
            Ok((Self::origin_of(state), self.record(state, user)))
        })
    }

    /// The records at `count` places from `start` on, each with whether this node has devices of the user.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn records(&self, id: &str, start: usize, count: usize) -> Outcome<Page<(Record, bool)>> {
        self.page_of(id, start, count, |member| {
            Some((Record::of(member), !member.devices.is_empty()))
        })
    }
}
