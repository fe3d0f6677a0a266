//! What becomes of an operation.

use super::chunks::Snapshot;
use super::member::Status;
use super::recipients::Recipient;
use super::record::Origin;
use smallvec::SmallVec;
use std::sync::Arc;

/// Why an operation is refused. Which of them an operation knows, and in which order they are
/// tested, is said at the operation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// There is no such group.
    NotFound,
    /// There is a group of that name.
    AlreadyExists,
    /// There are as many groups as there may be, or the user is in as many.
    TooManyGroups,
    /// The device is a member already.
    AlreadyMember,
    /// The user has as many devices in the group, on this node, as a user may have.
    TooManyDevices,
    /// The group has as many members, or pending ones, as it may have.
    GroupFull,
    /// The user is banned.
    Banned,
    /// The user is not in the group.
    NotInGroup,
    /// The actor may not do that.
    NotAdmin,
    /// The target waits for nothing.
    NotPending,
    /// Only in strict private groups.
    NotStrictPrivate,
    /// The target is not active, or is the actor.
    CannotMute,
    /// The target is not muted.
    NotMuted,
    /// The target is the actor.
    CannotKick,
    /// The target is the actor.
    CannotBan,
    /// The target is banned already.
    AlreadyBanned,
    /// The target is not banned.
    NotBanned,
    /// The target is not active.
    CannotPromote,
    /// The target is an admin already.
    AlreadyAdmin,
    /// The target is no admin.
    CannotDemote,
    /// The target is the only admin.
    LastAdmin,
    /// The sender waits to be accepted.
    Pending,
    /// The sender is muted.
    Muted,
    /// Too many messages; more after that many milliseconds.
    TooFast(u64),
    /// Other nodes have to agree; nothing was done.
    Shared,
}

/// A device that has joined.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The status of its user.
    pub status: Status,
    /// Whether nobody monitors the device yet.
    pub unmonitored: bool,
}

/// Somebody has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The group.
    pub group: Box<str>,
    /// The user.
    pub user: Box<str>,
    /// Whether that was their last device on this node.
    pub last: bool,
    /// Whether they stay a member, until nodes agree that they have no device on any of them.
    pub stays: bool,
    /// And whether that is because others have some, as far as is known here.
    pub elsewhere: bool,
}

/// A member as others see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The user.
    pub user: Box<str>,
    /// The status.
    pub status: Status,
    /// Whether this is an admin.
    pub admin: bool,
    /// When the user joined.
    pub joined_ms: u64,
    /// Devices on this node.
    pub devices: usize,
}

/// Some of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The group.
    pub origin: Origin,
    /// The members.
    pub rows: Vec<T>,
    /// Where the next page starts, if there is one.
    pub next: Option<usize>,
}

/// To whom a message goes.
#[derive(Clone, Debug)]
pub struct FanOut<H> {
    /// The devices on this node, as they were when the message was sent.
    pub recipients: Snapshot<Recipient<H>>,
    /// The lanes that they use, by number.
    pub lanes: SmallVec<[(u32, Arc<[u8]>); 2]>,
    /// Members who get it, on all nodes.
    pub audience: usize,
    /// The other nodes with devices of members, a bit each.
    pub remote: u64,
}

/// What the index holds.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Groups.
    pub groups: usize,
    /// Members of all groups, a user in two groups twice.
    pub members: usize,
    /// Users who are in, or remembered by, at least one group.
    pub users: usize,
    /// Devices that are monitored.
    pub devices: usize,
    /// Memory in bytes, roughly.
    pub bytes: usize,
}
