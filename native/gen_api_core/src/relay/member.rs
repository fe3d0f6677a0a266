//! One user in one group.

use super::outcome::Refusal;
use super::users::User;

/// How a member stands in a group.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Sends and receives.
    Active,
    /// Waits to be accepted.
    Pending,
    /// Receives and cannot send.
    Muted,
}

/// What a group knows of a user, in one byte.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemberFlags(u8);

impl MemberFlags {
    /// Is in the group; without it the user is only remembered.
    pub const IN_GROUP: Self = Self(1);
    /// Has not been accepted.
    pub const PENDING: Self = Self(2);
    /// Must not send.
    pub const MUTED: Self = Self(4);
    /// Has the admin role.
    pub const ADMIN: Self = Self(8);
    /// Must not join.
    pub const BANNED: Self = Self(16);
    /// Was accepted, and may come back for a while as if they had not left.
    pub const GRACE: Self = Self(32);

    const REMEMBERED: Self = Self(4 | 8 | 16 | 32);

    /// Whether all of `other` holds.
    #[inline]
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The byte, to hand it to another node.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From the byte; bits that mean nothing are dropped.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 63)
    }

    /// The status, for those who are in the group.
    #[inline]
    #[must_use]
    pub const fn status(self) -> Option<Status> {
        if !self.has(Self::IN_GROUP) {
            None
        } else if self.has(Self::PENDING) {
            Some(Status::Pending)
        } else if self.has(Self::MUTED) {
            Some(Status::Muted)
        } else {
            Some(Status::Active)
        }
    }

    /// Whether messages go to this user, who is in the group and not pending.
    #[inline]
    #[must_use]
    pub const fn is_audience(self) -> bool {
        self.has(Self::IN_GROUP) && !self.has(Self::PENDING)
    }

    /// Whether there is anything to remember of somebody who is not in the group.
    #[must_use]
    pub const fn is_remembered(self) -> bool {
        self.0 & Self::REMEMBERED.0 != 0
    }
}

/// A device of a member and its place in the group's list of recipients.
pub(super) type Place<H> = (H, u32);

/// The devices of one member on this node; most have one.
#[derive(Debug, Default)]
#[allow(clippy::box_collection)] // thin: a member has to be small
pub(super) enum Devices<H> {
    #[default]
    None,
    One(u32, H),
    Many(Box<Vec<Place<H>>>),
}

/// Devices of a member on one node. Taking them all out costs up to the square of it, on a scheduler of the VM and
/// while others wait for the group.
const MAX_DEVICES: usize = 1_000;

impl<H: Copy + Eq> Devices<H> {
    /// Whether there may be one more.
    ///
    /// # Errors
    ///
    /// `AlreadyMember`, `TooManyDevices`.
    pub(super) fn admit(&self, id: H) -> Result<(), Refusal> {
        if self.find(id).is_some() {
            Err(Refusal::AlreadyMember)
        } else if self.len() >= MAX_DEVICES {
            Err(Refusal::TooManyDevices)
        } else {
            Ok(())
        }
    }

    /// The one that came last.
    pub(super) fn last(&self) -> Option<Place<H>> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(..) => 1,
            Self::Many(places) => places.len(),
        }
    }

    pub(super) fn get(&self, n: usize) -> Option<Place<H>> {
        match self {
            Self::One(slot, id) if n == 0 => Some((*id, *slot)),
            Self::Many(places) => places.get(n).copied(),
            _ => None,
        }
    }

    pub(super) fn find(&self, id: H) -> Option<u32> {
        match self {
            Self::None => None,
            Self::One(slot, one) => (*one == id).then_some(*slot),
            // From the end: what came last goes first where all go.
            Self::Many(places) => places.iter().rfind(|place| place.0 == id).map(|p| p.1),
        }
    }

    pub(super) fn push(&mut self, id: H, slot: u32) {
        match self {
            Self::None => *self = Self::One(slot, id),
            Self::One(first, one) => {
                *self = Self::Many(Box::new(vec![(*one, *first), (id, slot)]));
            }
            Self::Many(places) => places.push((id, slot)),
        }
    }

    pub(super) fn remove(&mut self, id: H) {
        match self {
            Self::One(_, one) if *one == id => *self = Self::None,
            Self::Many(places) => {
                if let Some(at) = places.iter().rposition(|place| place.0 == id) {
                    places.swap_remove(at);
                }
                if let [(id, slot)] = places.as_slice() {
                    *self = Self::One(*slot, *id);
                }
            }
            _ => {}
        }
    }

    /// The device at `from` is now at `to`.
    pub(super) fn moved(&mut self, from: u32, to: u32) {
        match self {
            Self::One(slot, _) if *slot == from => *slot = to,
            Self::Many(places) => {
                if let Some(place) = places.iter_mut().rfind(|place| place.1 == from) {
                    place.1 = to;
                }
            }
            _ => {}
        }
    }
}

/// A user in a group, or one who was and is remembered.
#[derive(Debug)]
pub(super) struct Member<H> {
    pub(super) user: User<H>,
    pub(super) devices: Devices<H>,
    joined: [u8; 6],
    pub(super) flags: MemberFlags,
    /// Which change of the group set the flags, for copies on other nodes.
    pub(super) version: u32,
    /// The other nodes on which the user has devices, a bit each.
    pub(super) remote: u64,
}

impl<H> Member<H> {
    pub(super) fn new(user: User<H>) -> Self {
        Self {
            user,
            devices: Devices::None,
            joined: [0; 6],
            flags: MemberFlags::default(),
            version: 0,
            remote: 0,
        }
    }

    /// When the user joined, in milliseconds of the caller's epoch.
    pub(super) fn joined_ms(&self) -> u64 {
        let [a, b, c, d, e, f] = self.joined;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }

    /// Keeps 48 bits: some 8,900 years.
    pub(super) fn set_joined_ms(&mut self, ms: u64) {
        let [a, b, c, d, e, f, _, _] = ms.to_le_bytes();
        self.joined = [a, b, c, d, e, f];
    }
}

const _: () = assert!(size_of::<Option<Member<u64>>>() <= 48);
