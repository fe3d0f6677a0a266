//! What there is: members, groups of users, and how much of all.

use super::group::Created;
use super::index::{Outcome, Relay};
use super::member::{Member, MemberFlags, Status};
use super::outcome::{Page, Row, Size};
use super::rules::GroupType;
use std::hash::Hash;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// The members at `count` places from `start` on. Pages are read one after the other: a
    /// member who joins or leaves meanwhile may be in it or not.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn page(&self, id: &str, start: usize, count: usize) -> Outcome<Page<Row>> {
        self.page_of(id, start, count, |member| {
            Some(Row {
                user: member.user.id().into(),
                status: member.flags.status()?,
                admin: member.flags.has(MemberFlags::ADMIN),
                joined_ms: member.joined_ms(),
                devices: member.devices.len(),
            })
        })
    }

    /// What `row` makes of the entries at `count` places from `start` on.
    pub(super) fn page_of<T>(
        &self,
        id: &str,
        start: usize,
        count: usize,
        row: impl Fn(&Member<H>) -> Option<T>,
    ) -> Outcome<Page<T>> {
        self.with_group(id, |_group, state| {
            let next = start.saturating_add(count);
            Ok(Page {
                origin: Self::origin_of(state),
                rows: state.members.slice(start, count).filter_map(row).collect(),
                next: (next < state.members.end()).then_some(next),
            })
        })
    }

    /// The type of a group, and when and where it was created.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn origin(&self, id: &str) -> Outcome<(GroupType, Created)> {
        self.with_group(id, |_group, state| Ok((state.kind, state.created)))
    }

    /// The groups that a user is in, with the status in each. They are looked at one after the
    /// other: what happens meanwhile may be seen in one and not in another.
    pub fn groups_of(&self, user: &str) -> Vec<(Box<str>, Status)> {
        let groups = self
            .users
            .groups(user, self.hash(user.as_bytes()))
            .into_iter();
        groups
            .filter_map(|group| {
                let state = group.state.lock();
                // One that could not be created, too.
                if state.deleted {
                    return None;
                }
                let (_, flags) = self.find_member(&state, user)?;
                Some((group.id.clone(), flags.status()?))
            })
            .collect()
    }

    /// What it holds. Linear in the number of groups and users.
    pub fn size(&self) -> Size {
        let (users, of_users) = self.users.size();
        let (devices, of_devices) = self.devices.size();
        let mut size = Size {
            groups: self.len(),
            users,
            devices,
            bytes: of_users + of_devices + self.message_rate.stats().bytes,
            ..Size::default()
        };
        for group in self.all() {
            let state = group.state.lock();
            size.members += state.in_group;
            size.bytes += group.id.len() + state.bytes();
        }
        size
    }
}
