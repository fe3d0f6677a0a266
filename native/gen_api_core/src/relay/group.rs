//! One group: its members, and the devices that its messages go to.

use super::chunks::Chunks;
use super::member::{Member, Standing};
use super::roster::Roster;
use super::rules::GroupType;
use super::users::User;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// A device, and where and how messages get to it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Device<'l, H> {
    /// What joins and ends.
    pub id: H,
    /// Whom messages are sent to.
    pub to: H,
    /// In which form: bytes that mean something to the caller.
    pub lane: &'l [u8],
}

/// An entry of the list that a fan-out walks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Recipient<H> {
    /// Whom messages are sent to.
    pub to: H,
    /// In which form: the number of a lane.
    pub lane: u32,
    member: u32,
}

/// The form of messages that some devices of a group want.
#[derive(Debug)]
struct Lane {
    key: Arc<[u8]>,
    devices: u32,
    receiving: u32,
}

/// When and where a group was created: the older of two wins when nodes find each other.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Created {
    /// Milliseconds of the caller's epoch.
    pub ms: u64,
    /// Tells apart what was created within a millisecond.
    pub by: u64,
}

/// A group. What does not change is outside of the lock.
#[derive(Debug)]
pub(super) struct Group<H> {
    pub(super) id: Box<str>,
    pub(super) state: Mutex<State<H>>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State<H> {
    pub(super) kind: GroupType,
    pub(super) created: Created,
    /// When it last changed.
    pub(super) changed_ms: u64,
    /// Taken out of the index; whoever still holds it must look again.
    pub(super) deleted: bool,
    pub(super) roster: Roster<H>,
    /// The devices; those that get messages come first.
    fan: Chunks<Recipient<H>>,
    receiving: usize,
    lanes: SmallVec<[Lane; 1]>,
    /// Members who are in the group.
    pub(super) present: usize,
    /// Of those, who are not pending.
    pub(super) audience: usize,
    /// Admins, remembered ones included.
    pub(super) admins: usize,
    /// Counts the changes of standings, those seen on other nodes included.
    pub(super) clock: u32,
    /// Devices of members on other nodes: how many members each node has.
    pub(super) elsewhere: SmallVec<[(u32, u32); 2]>,
    /// Those who may come back, and until when.
    grace: VecDeque<(u64, u32)>,
}

impl<H: Copy + Eq> Group<H> {
    pub(super) fn new(id: &str, kind: GroupType, created: Created) -> Self {
        Self {
            id: id.into(),
            state: Mutex::new(State {
                kind,
                created,
                changed_ms: created.ms,
                deleted: false,
                roster: Roster::default(),
                fan: Chunks::default(),
                receiving: 0,
                lanes: SmallVec::new(),
                present: 0,
                audience: 0,
                admins: 0,
                clock: 0,
                elsewhere: SmallVec::new(),
                grace: VecDeque::new(),
            }),
        }
    }
}

fn step(count: &mut usize, before: bool, after: bool) {
    *count = match (before, after) {
        (false, true) => count.saturating_add(1),
        (true, false) => count.saturating_sub(1),
        _ => *count,
    };
}

impl<H: Copy + Eq> State<H> {
    pub(super) fn pending(&self) -> usize {
        self.present.saturating_sub(self.audience)
    }

    pub(super) fn add(&mut self, user: User<H>, hash: u64, hasher: impl Fn(&[u8]) -> u64) -> u32 {
        self.roster.insert(user, hash, hasher)
    }

    /// Changes how a member stands; everything that follows from it follows. Returns how he
    /// stood.
    pub(super) fn stand(&mut self, at: u32, after: Standing) -> Standing {
        let Some(member) = self.roster.get_mut(at) else {
            return Standing::default();
        };
        let before = std::mem::replace(&mut member.standing, after);
        if before == after {
            return before;
        }
        self.clock = self.clock.saturating_add(1);
        member.version = self.clock;
        let present = Standing::PRESENT;
        step(&mut self.present, before.has(present), after.has(present));
        step(
            &mut self.audience,
            before.is_audience(),
            after.is_audience(),
        );
        step(
            &mut self.admins,
            before.has(Standing::ADMIN),
            after.has(Standing::ADMIN),
        );
        if before.is_audience() != after.is_audience() {
            self.redirect(at, after.is_audience());
        }
        before
    }

    /// All devices of a member now get messages, or no longer do.
    fn redirect(&mut self, at: u32, receives: bool) {
        let devices = self.roster.get(at).map_or(0, |member| member.devices.len());
        for n in 0..devices {
            // Read anew each time: moving one device may move another.
            let place = self.roster.get(at).and_then(|member| member.devices.get(n));
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
        let (Some(first), Some(second)) = (self.fan.get(a as usize), self.fan.get(b as usize))
        else {
            return;
        };
        self.fan.set(a as usize, second);
        self.fan.set(b as usize, first);
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
        if let Some(member) = self.roster.get_mut(member) {
            member.devices.moved(from, to);
        }
    }

    fn lane_at(&mut self, slot: u32) -> Option<&mut Lane> {
        let entry = self.fan.get(slot as usize)?;
        self.lanes.get_mut(entry.lane as usize)
    }

    /// The number of a lane, which has one more device.
    fn enter_lane(&mut self, key: &[u8]) -> u32 {
        let known = self.lanes.iter().position(|lane| *lane.key == *key);
        let at = known.or_else(|| {
            let unused = self.lanes.iter().position(|lane| lane.devices == 0)?;
            self.lanes.get_mut(unused)?.key = key.into();
            Some(unused)
        });
        let at = at.unwrap_or_else(|| {
            self.lanes.push(Lane {
                key: key.into(),
                devices: 0,
                receiving: 0,
            });
            self.lanes.len() - 1
        });
        if let Some(lane) = self.lanes.get_mut(at) {
            lane.devices = lane.devices.saturating_add(1);
        }
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// A member has one more device here.
    pub(super) fn attach(&mut self, at: u32, device: Device<'_, H>) {
        if self.roster.get(at).is_none() {
            return;
        }
        let lane = self.enter_lane(device.lane);
        let slot = u32::try_from(self.fan.len()).unwrap_or(u32::MAX);
        let Some(member) = self.roster.get_mut(at) else {
            return;
        };
        member.devices.push(device.id, slot);
        let receives = member.standing.is_audience();
        self.fan.push(Recipient {
            to: device.to,
            lane,
            member: at,
        });
        if receives {
            self.start_receiving(slot);
        }
    }

    /// A member has one device less here; whether he had it.
    pub(super) fn detach(&mut self, at: u32, id: H) -> bool {
        let Some(slot) = self.roster.get(at).and_then(|m| m.devices.find(id)) else {
            return false;
        };
        self.stop_receiving(slot);
        // It may have moved to the border, which is where its neighbours begin.
        let slot = self.roster.get(at).and_then(|m| m.devices.find(id));
        let last = self.fan.len().saturating_sub(1) as u32;
        self.swap(slot.unwrap_or(last), last);
        if let Some(lane) = self.lane_at(last) {
            lane.devices = lane.devices.saturating_sub(1);
        }
        self.fan.pop();
        if let Some(member) = self.roster.get_mut(at) {
            member.devices.remove(id);
        }
        true
    }

    /// Forgets a member of whom there is nothing to know; his entry, if so.
    pub(super) fn tidy(&mut self, at: u32, hash: impl Fn(&[u8]) -> u64) -> Option<Member<H>> {
        let member = self.roster.get(at)?;
        let known = member.standing.has(Standing::PRESENT)
            || member.standing.is_remembered()
            || !member.devices.is_empty()
            || member.remote != 0;
        if known {
            return None;
        }
        let hash = hash(member.user.bytes());
        self.roster.remove(at, hash)
    }

    /// A member may come back until then.
    pub(super) fn grant_grace(&mut self, at: u32, until_ms: u64) {
        self.grace.push_back((until_ms, at));
    }

    /// The next one whose time is over. He may have come back, or be somebody else by now.
    pub(super) fn next_overdue(&mut self, now_ms: u64) -> Option<u32> {
        let (until, at) = *self.grace.front()?;
        if until > now_ms {
            return None;
        }
        self.grace.pop_front();
        Some(at)
    }

    /// What a message goes to.
    pub(super) fn fan(&self) -> super::chunks::Snapshot<Recipient<H>> {
        self.fan.snapshot(self.receiving)
    }

    /// The lanes that somebody receives on, by number.
    pub(super) fn lanes(&self) -> SmallVec<[(u32, Arc<[u8]>); 2]> {
        (0..)
            .zip(&self.lanes)
            .filter(|(_, lane)| lane.receiving > 0)
            .map(|(at, lane)| (at, Arc::clone(&lane.key)))
            .collect()
    }

    /// A bit for each other node with devices of members.
    pub(super) fn remote(&self) -> u64 {
        self.elsewhere
            .iter()
            .fold(0, |mask, (node, _)| mask | 1 << (node & 63))
    }

    /// Roughly the bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Group<H>>()
            + self.roster.bytes()
            + self.fan.len() * size_of::<Recipient<H>>()
            + self.grace.capacity() * 16
    }

    /// Checks that the parts agree; for tests.
    pub(super) fn verify(&self) {
        let mut devices = 0;
        let (mut present, mut audience, mut admins) = (0, 0, 0);
        for at in 0..self.roster.end() as u32 {
            let Some(member) = self.roster.get(at) else {
                continue;
            };
            present += usize::from(member.standing.has(Standing::PRESENT));
            audience += usize::from(member.standing.is_audience());
            admins += usize::from(member.standing.has(Standing::ADMIN));
            for n in 0..member.devices.len() {
                let slot = member.devices.get(n).map_or(u32::MAX, |place| place.1);
                let entry = self.fan.get(slot as usize);
                assert_eq!(entry.map(|entry| entry.member), Some(at));
                assert_eq!(
                    (slot as usize) < self.receiving,
                    member.standing.is_audience()
                );
                devices += 1;
            }
        }
        assert_eq!(devices, self.fan.len());
        assert_eq!(
            (present, audience, admins),
            (self.present, self.audience, self.admins)
        );
        let lanes = |count: fn(&Lane) -> u32| self.lanes.iter().map(count).sum::<u32>() as usize;
        assert_eq!(lanes(|lane| lane.receiving), self.receiving);
        assert_eq!(lanes(|lane| lane.devices), devices);
    }
}
