//! That all parts agree, for tests.

use super::group::{Group, State};
use super::index::Relay;
use super::member::MemberFlags;
use super::recipients::Lane;
use std::hash::Hash;
use std::sync::Arc;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Checks that all parts agree while nothing else happens: each group in itself, the groups that users are in,
    /// the reverse index of devices, and the counts.
    #[doc(hidden)]
    pub fn verify(&self) {
        let (mut groups, mut members, mut devices) = (0, 0, 0);
        for group in self.all() {
            let state = group.state.lock();
            assert!(!state.deleted);
            state.verify();
            groups += 1;
            members += state.members.len();
            devices += self.verify_members(&group, &state);
        }
        assert_eq!(groups, self.len());
        // Each was found where it has to be, and there are no others.
        assert_eq!(members, self.users.memberships());
        assert_eq!(devices, self.devices.memberships());
    }

    fn verify_members(&self, group: &Arc<Group<H>>, state: &State<H>) -> usize {
        let mut devices = 0;
        for at in 0..state.members.end() as u32 {
            let Some(member) = state.members.get(at) else {
                continue;
            };
            let hash = self.hash(member.user.bytes());
            assert!(self.users.knows(&member.user, hash, group));
            for n in 0..member.devices.len() {
                let device = member.devices.get(n);
                assert!(device.is_some_and(|(id, _)| self.devices.knows(id, group, at)));
                devices += 1;
            }
        }
        devices
    }
}

impl<H: Copy + Eq> State<H> {
    fn verify(&self) {
        let mut devices = 0;
        let (mut in_group, mut audience, mut admins) = (0, 0, 0);
        for at in 0..self.members.end() as u32 {
            let Some(member) = self.members.get(at) else {
                continue;
            };
            in_group += usize::from(member.flags.has(MemberFlags::IN_GROUP));
            audience += usize::from(member.flags.is_audience());
            admins += usize::from(member.flags.has(MemberFlags::ADMIN));
            for n in 0..member.devices.len() {
                let slot = member.devices.get(n).map_or(u32::MAX, |place| place.1);
                let entry = self.recipients.get(slot as usize);
                assert_eq!(entry.map(|entry| entry.member), Some(at));
                assert_eq!((slot as usize) < self.receiving, member.flags.is_audience());
                devices += 1;
            }
        }
        assert_eq!(devices, self.recipients.len());
        assert_eq!(
            (in_group, audience, admins),
            (self.in_group, self.audience, self.admins)
        );
        let lanes = |count: fn(&Lane) -> u32| self.lanes.iter().map(count).sum::<u32>() as usize;
        assert_eq!(lanes(|lane| lane.receiving), self.receiving);
        assert_eq!(lanes(|lane| lane.devices), devices);
    }
}
