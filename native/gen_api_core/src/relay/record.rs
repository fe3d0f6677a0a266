//! Groups that several nodes hold: what they tell each other of one.
//!
//! Every node has a record of every member of every group, and devices of its own only; of the
//! other nodes it knows which have devices of a member, a bit for each. One node at a time
//! decides on changes (`order_…`), the others copy the records that come of it ([`Relay::put`]).
//! Nodes that find each other unite what they have ([`Relay::merge`]).

use super::group::{Created, State};
use super::index::{Outcome, Relay};
use super::member::MemberFlags;
use super::rules::GroupType;
use crate::sync::atomic::Ordering;
use std::hash::Hash;

/// What all nodes know of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The user.
    pub user: Box<str>,
    /// How he stands.
    pub flags: MemberFlags,
    /// Which change of the group this is.
    pub version: u32,
    /// When he joined.
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

/// Some records of a group, each with whether this node has devices of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// The group.
    pub origin: Origin,
    /// The records.
    pub records: Vec<(Record, bool)>,
    /// Where the next page starts, if there is one.
    pub next: Option<usize>,
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Whether other nodes have to agree to changes: then operations that are not ordered are
    /// refused with `Shared`. Whoever reads a group after setting this sees all unordered changes.
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
        let member = at.and_then(|at| state.members.get(at));
        Record {
            user: user.into(),
            flags: member.map_or_else(MemberFlags::default, |member| member.flags),
            // Somebody who was forgotten just now, by the last change.
            version: member.map_or(state.clock, |member| member.version),
            joined_ms: member.map_or(0, |member| member.joined_ms()),
        }
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

    /// The records at `count` places from `start` on.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn records(&self, id: &str, start: usize, count: usize) -> Outcome<Records> {
        self.with_group(id, |_group, state| {
            let members = state.members.slice(start, count);
            let records = members.map(|member| {
                let record = Record {
                    user: member.user.id().into(),
                    flags: member.flags,
                    version: member.version,
                    joined_ms: member.joined_ms(),
                };
                (record, !member.devices.is_empty())
            });
            let next = start.saturating_add(count);
            Ok(Records {
                origin: Self::origin_of(state),
                records: records.collect(),
                next: (next < state.members.end()).then_some(next),
            })
        })
    }
}
