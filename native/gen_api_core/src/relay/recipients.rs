//! The devices of a group, and which of them its messages go to.

use super::chunks::Snapshot;
use super::group::State;
use smallvec::SmallVec;
use std::sync::Arc;

/// A device, and where and how messages get to it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Device<'l, H> {
    /// What joins and ends.
    pub id: H,
    /// Whom messages are sent to.
    pub to: H,
    /// In which form: bytes that mean something to the caller; none if messages go to the device itself.
    pub lane: &'l [u8],
}

/// How many forms there are in a group besides that of devices themselves: a message is written once for each.
const MAX_LANES: usize = 64;

/// An entry of the list that a fan-out walks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Recipient<H> {
    /// Whom messages are sent to.
    pub to: H,
    /// In which form: the number of a lane.
    pub lane: u32,
    pub(super) member: u32,
}

/// The form of messages that some devices of a group want.
#[derive(Debug, Default)]
pub(super) struct Lane {
    key: Arc<[u8]>,
    pub(super) devices: u32,
    pub(super) receiving: u32,
}

impl<H: Copy + Eq> State<H> {
    /// All devices of a member now get messages, or no longer do.
    pub(super) fn redirect(&mut self, at: u32, receives: bool) {
        let devices = self
            .members
            .get(at)
            .map_or(0, |member| member.devices.len());
        for n in 0..devices {
            // Read anew each time: moving one device may move another.
            let place = self
                .members
                .get(at)
                .and_then(|member| member.devices.get(n));
            if let Some((_, slot)) = place {
                if receives {
                    self.start_receiving(slot);
                } else {
                    self.stop_receiving(slot);
                }
            }
        }
    }

    fn start_receiving(&mut self, slot: u32) {
        let border = self.receiving as u32;
        if slot < border {
            return;
        }
        self.swap(slot, border);
        self.receiving += 1;
        if let Some(lane) = self.lane_at(border) {
            lane.receiving = lane.receiving.saturating_add(1);
        }
    }

    fn stop_receiving(&mut self, slot: u32) {
        if slot as usize >= self.receiving {
            return;
        }
        if let Some(lane) = self.lane_at(slot) {
            lane.receiving = lane.receiving.saturating_sub(1);
        }
        self.receiving -= 1;
        self.swap(slot, self.receiving as u32);
    }

    fn swap(&mut self, a: u32, b: u32) {
        if a == b {
            return;
        }
        let (Some(first), Some(second)) = (
            self.recipients.get(a as usize),
            self.recipients.get(b as usize),
        ) else {
            return;
        };
        self.recipients.set(a as usize, second);
        self.recipients.set(b as usize, first);
        if first.member == second.member {
            // Through a place that nothing has, or both would end up as one.
            self.note_move(first.member, a, u32::MAX);
            self.note_move(second.member, b, a);
            self.note_move(first.member, u32::MAX, b);
        } else {
            self.note_move(first.member, a, b);
            self.note_move(second.member, b, a);
        }
    }

    fn note_move(&mut self, member: u32, from: u32, to: u32) {
        if let Some(member) = self.members.get_mut(member) {
            member.devices.moved(from, to);
        }
    }

    fn lane_at(&mut self, slot: u32) -> Option<&mut Lane> {
        let entry = self.recipients.get(slot as usize)?;
        self.lanes.get_mut(entry.lane as usize)
    }

    /// The number of a lane, which has one more device; none if there are too many.
    fn enter_lane(&mut self, key: &[u8]) -> Option<u32> {
        let known = self.lanes.iter().position(|lane| *lane.key == *key);
        let unused = || self.lanes.iter().position(|lane| lane.devices == 0);
        let at = match known.or_else(unused) {
            Some(at) => at,
            None if self.lanes.len() >= MAX_LANES && !key.is_empty() => return None,
            None => {
                self.lanes.push(Lane::default());
                self.lanes.len() - 1
            }
        };
        let lane = self.lanes.get_mut(at)?;
        if known.is_none() {
            lane.key = key.into();
        }
        lane.devices = lane.devices.saturating_add(1);
        u32::try_from(at).ok()
    }

    /// A member has one more device here.
    pub(super) fn attach(&mut self, at: u32, device: Device<'_, H>) {
        if self.members.get(at).is_none() {
            return;
        }
        // Where every device wants a form of its own, each has to find its own.
        let (to, lane) = match self.enter_lane(device.lane) {
            Some(lane) => (device.to, lane),
            None => (device.id, self.enter_lane(b"").unwrap_or(u32::MAX)),
        };
        let slot = u32::try_from(self.recipients.len()).unwrap_or(u32::MAX);
        let Some(member) = self.members.get_mut(at) else {
            return;
        };
        member.devices.push(device.id, slot);
        let receives = member.flags.is_audience();
        self.recipients.push(Recipient {
            to,
            lane,
            member: at,
        });
        if receives {
            self.start_receiving(slot);
        }
    }

    /// A member has one device less here; whether it was there.
    pub(super) fn detach(&mut self, at: u32, id: H) -> bool {
        let Some(slot) = self.members.get(at).and_then(|m| m.devices.find(id)) else {
            return false;
        };
        self.stop_receiving(slot);
        // It may have moved to the border, which is where its neighbours begin.
        let slot = self.members.get(at).and_then(|m| m.devices.find(id));
        let last = self.recipients.len().saturating_sub(1) as u32;
        self.swap(slot.unwrap_or(last), last);
        if let Some(lane) = self.lane_at(last) {
            lane.devices = lane.devices.saturating_sub(1);
        }
        self.recipients.pop();
        if let Some(member) = self.members.get_mut(at) {
            member.devices.remove(id);
        }
        true
    }

    /// What a message goes to.
    pub(super) fn recipients(&self) -> Snapshot<Recipient<H>> {
        self.recipients.snapshot(self.receiving)
    }

    /// The lanes that somebody receives on, by number.
    pub(super) fn lanes(&self) -> SmallVec<[(u32, Arc<[u8]>); 2]> {
        (0..)
            .zip(&self.lanes)
            .filter(|(_, lane)| lane.receiving > 0)
            .map(|(at, lane)| (at, Arc::clone(&lane.key)))
            .collect()
    }
}
