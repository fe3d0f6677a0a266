//! All groups, and what can be done to them.

use super::devices::Registry;
use super::endings::Endings;
use super::group::{Created, Device, Group, State};
use super::member::{Standing, Status};
use super::outcome::{FanOut, Joined, Left, Page, Refusal, Row, Size};
use super::pace::Pace;
use super::roster::Roster;
use super::rules::{Action, GroupType};
use super::users::Users;
use crate::clock::Nanos;
use crate::limiter::Swept;
use ahash::RandomState;
use arc_swap::ArcSwap;
use hashbrown::HashTable;
use parking_lot::RwLock;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

const SHARDS: usize = 256;

/// How much an index may hold.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Groups.
    pub groups: usize,
    /// Members of a group, remembered ones included.
    pub members: usize,
    /// Pending members of a group.
    pub pending: usize,
    /// Groups of a user.
    pub groups_per_user: usize,
    /// How long somebody whose last device has ended may come back as if he had not gone.
    pub grace_ms: u64,
}

impl Default for Bounds {
    /// The defaults of the configuration.
    fn default() -> Self {
        Self {
            groups: 100_000,
            members: 100_000,
            pending: 1_000,
            groups_per_user: 1_000,
            grace_ms: 0,
        }
    }
}

type Shard<H> = RwLock<HashTable<Arc<Group<H>>>>;
type Outcome<T = ()> = Result<T, Refusal>;

/// An index of groups. `H` names a device.
///
/// Every operation is constant in the size of the group, except [`Relay::delete`] and the
/// listings. Locks: a shard of the groups is held for one look-up; a group is held for the
/// operation; shards of users and devices are held within that, for one look-up each.
#[derive(Debug)]
pub struct Relay<H> {
    groups: Box<[Shard<H>]>,
    count: AtomicUsize,
    pub(super) users: Users<H>,
    pub(super) devices: Registry<H>,
    pub(super) endings: Endings<H>,
    pub(super) bounds: ArcSwap<Bounds>,
    pace: Pace,
    pub(super) shared: AtomicBool,
    pub(super) hasher: RandomState,
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Without groups.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let hasher = RandomState::new();
        Self {
            groups: (0..SHARDS).map(|_| Shard::default()).collect(),
            count: AtomicUsize::new(0),
            users: Users::new(SHARDS),
            devices: Registry::new(SHARDS, hasher.clone()),
            endings: Endings::default(),
            bounds: ArcSwap::from_pointee(bounds),
            pace: Pace::new(),
            shared: AtomicBool::new(false),
            hasher,
        }
    }

    /// Changes the bounds. What is there already stays.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.bounds.store(Arc::new(bounds));
    }

    /// Limits the messages per second of each group, and of each member in each group.
    pub fn set_pace(&self, group: Option<u32>, member: Option<u32>) {
        self.pace.set(group, member);
    }

    /// Reclaims memory of those limits, see [`crate::limiter::Limiter::sweep`].
    pub fn sweep(&self, now: Nanos, budget: usize) -> Swept {
        self.pace.sweep(now, budget)
    }

    pub(super) fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    fn shard(&self, hash: u64) -> Option<&Shard<H>> {
        let spread = usize::try_from(hash >> 24 & 0xffff).unwrap_or(0);
        self.groups.get(spread & (SHARDS - 1))
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Group<H>>> {
        let hash = self.hash(id.as_bytes());
        let shard = self.shard(hash)?.read();
        shard.find(hash, |group| *group.id == *id).cloned()
    }

    /// All groups as they are now, one shard after the other.
    pub(super) fn all(&self) -> impl Iterator<Item = Arc<Group<H>>> + '_ {
        self.groups
            .iter()
            .flat_map(|shard| shard.read().iter().cloned().collect::<Vec<_>>())
    }

    /// Does something to a group under its lock.
    pub(super) fn with<T>(
        &self,
        id: &str,
        act: impl FnOnce(&Arc<Group<H>>, &mut State<H>) -> Outcome<T>,
    ) -> Outcome<T> {
        let group = self.find(id).ok_or(Refusal::NotFound)?;
        let mut state = group.state.lock();
        if state.deleted {
            return Err(Refusal::NotFound);
        }
        act(&group, &mut state)
    }

    /// The same, unless other nodes have to agree to changes.
    pub(super) fn alone<T>(
        &self,
        id: &str,
        act: impl FnOnce(&Arc<Group<H>>, &mut State<H>) -> Outcome<T>,
    ) -> Outcome<T> {
        let outcome = self.with(id, |group, state| {
            self.unshared()?;
            act(group, state)
        });
        match outcome {
            // What is not here may be on its way.
            Err(Refusal::NotFound) => self.unshared().and(outcome),
            _ => outcome,
        }
    }

    // Within the lock of the group: whoever sees it set has not changed what somebody copied
    // after setting it.
    fn unshared(&self) -> Outcome {
        if self.shared.load(Ordering::SeqCst) {
            Err(Refusal::Shared)
        } else {
            Ok(())
        }
    }

    /// Creates a group with its first member, an active admin. The result says whether nobody
    /// watches the device yet.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `TooManyGroups`.
    pub fn create(
        &self,
        id: &str,
        kind: GroupType,
        user: &str,
        device: Device<'_, H>,
        created: Created,
    ) -> Outcome<bool> {
        let (_, unwatched) = self.found(id, kind, user, created, Some(device))?;
        Ok(unwatched)
    }

    /// A new group; without a device of its first member only where other nodes have to agree.
    /// The result says whether nobody watches the device yet.
    pub(super) fn found(
        &self,
        id: &str,
        kind: GroupType,
        user: &str,
        created: Created,
        device: Option<Device<'_, H>>,
    ) -> Outcome<(Arc<Group<H>>, bool)> {
        let bounds = self.bounds.load();
        if self.find(id).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        let group = Arc::new(Group::new(id, kind, created));
        let hash = self.hash(user.as_bytes());
        let mut state = group.state.lock();
        if device.is_some() {
            self.unshared()?;
        }
        let entered = self
            .users
            .enter(user, hash, &group, bounds.groups_per_user, |id| {
                self.hash(id)
            })
            .ok_or(Refusal::TooManyGroups)?;
        let leave = entered.clone();
        let at = state.add(entered, hash, |id| self.hash(id));
        if let Some(member) = state.roster.get_mut(at) {
            member.set_joined_ms(created.ms);
        }
        state.stand(at, Standing::PRESENT.with(Standing::ADMIN));
        if let Err(refusal) = self.publish_group(&group, bounds.groups) {
            state.deleted = true;
            self.users.leave(&leave, hash, &group);
            return Err(refusal);
        }
        // Before anybody else can have him leave.
        let unwatched = device.is_some_and(|device| {
            state.attach(at, device);
            self.devices.enter(device.id, &group, at)
        });
        drop(state);
        Ok((group, unwatched))
    }

    /// Makes a new group known to all.
    pub(super) fn publish_group(&self, group: &Arc<Group<H>>, most: usize) -> Outcome {
        let hash = self.hash(group.id.as_bytes());
        let Some(shard) = self.shard(hash) else {
            return Err(Refusal::TooManyGroups);
        };
        let mut shard = shard.write();
        if shard.find(hash, |other| other.id == group.id).is_some() {
            return Err(Refusal::AlreadyExists);
        }
        let more = |count| (count < most).then_some(count + 1);
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| Refusal::TooManyGroups)?;
        shard.insert_unique(hash, Arc::clone(group), |group| {
            self.hash(group.id.as_bytes())
        });
        Ok(())
    }

    /// Deletes a group with all that it remembers; how many members were in it. Linear in the
    /// number of its members, but nobody waits for it.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn delete(&self, id: &str) -> Outcome<usize> {
        let closed = self.alone(id, |group, state| Ok(self.close(group, state)))?;
        Ok(self.dissolve(closed))
    }

    /// Nobody finds the group any more.
    pub(super) fn close(&self, group: &Arc<Group<H>>, state: &mut State<H>) -> Closed<H> {
        state.deleted = true;
        let hash = self.hash(group.id.as_bytes());
        if let Some(shard) = self.shard(hash) {
            let mut shard = shard.write();
            if let Ok(entry) = shard.find_entry(hash, |other| Arc::ptr_eq(other, group)) {
                entry.remove();
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
        Closed {
            group: Arc::clone(group),
            roster: std::mem::take(&mut state.roster),
            present: state.present,
        }
    }

    /// Its members are no longer in it; how many there were. The group is not locked: somebody
    /// who had found it before may be waiting for it.
    pub(super) fn dissolve(&self, closed: Closed<H>) -> usize {
        let Closed {
            group,
            roster,
            present,
        } = closed;
        for at in 0..roster.end() as u32 {
            let Some(member) = roster.get(at) else {
                continue;
            };
            for n in 0..member.devices.len() {
                if let Some((id, _)) = member.devices.get(n) {
                    self.devices.leave(id, &group, at);
                }
            }
            let hash = self.hash(member.user.bytes());
            self.users.leave(&member.user, hash, &group);
        }
        present
    }

    /// A device of a user joins.
    ///
    /// # Errors
    ///
    /// `NotFound`, `AlreadyMember`, `Banned`, `GroupFull`, `TooManyGroups`.
    pub fn join(
        &self,
        id: &str,
        user: &str,
        device: Device<'_, H>,
        now_ms: u64,
    ) -> Outcome<Joined> {
        self.alone(id, |group, state| {
            let hash = self.hash(user.as_bytes());
            if let Some(at) = state.roster.find(user.as_bytes(), hash) {
                let devices = state.roster.get(at).map(|member| &member.devices);
                if devices.is_some_and(|devices| devices.find(device.id).is_some()) {
                    return Err(Refusal::AlreadyMember);
                }
            }
            let (at, status) = self.admit(group, state, user, now_ms)?;
            state.attach(at, device);
            let unwatched = self.devices.enter(device.id, group, at);
            Ok(Joined { status, unwatched })
        })
    }

    /// Decides as what a user is in, who joins with a device.
    pub(super) fn admit(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        user: &str,
        now_ms: u64,
    ) -> Outcome<(u32, Status)> {
        self.expire(group, state, now_ms);
        let bounds = self.bounds.load();
        let hash = self.hash(user.as_bytes());
        let known = state.roster.find(user.as_bytes(), hash);
        let member = known.and_then(|at| state.roster.get(at));
        let mut before = member.map_or_else(Standing::default, |member| member.standing);
        if before.has(Standing::GRACE) && member.is_some_and(|m| m.joined_ms() <= now_ms) {
            before = before.without(Standing::GRACE);
        }
        if let (Some(at), Some(status)) = (known, before.status()) {
            return Ok((at, status));
        }
        if before.has(Standing::BANNED) {
            return Err(Refusal::Banned);
        }
        if known.is_none() && state.roster.len() >= bounds.members {
            return Err(Refusal::GroupFull);
        }
        let starts_over = !before.is_remembered();
        let pending = starts_over && state.kind.joins_as() == Status::Pending;
        if pending && state.pending() >= bounds.pending {
            return Err(Refusal::GroupFull);
        }
        let at = match known {
            Some(at) => at,
            None => {
                let user = self
                    .users
                    .enter(user, hash, group, bounds.groups_per_user, |id| {
                        self.hash(id)
                    })
                    .ok_or(Refusal::TooManyGroups)?;
                state.add(user, hash, |id| self.hash(id))
            }
        };
        let mut after = before.with(Standing::PRESENT).without(Standing::GRACE);
        if pending {
            after = after.with(Standing::PENDING);
        }
        if let Some(member) = state.roster.get_mut(at) {
            member.set_joined_ms(now_ms);
        }
        state.changed_ms = state.changed_ms.max(now_ms);
        state.stand(at, after);
        Ok((at, after.status().unwrap_or(Status::Pending)))
    }

    /// Forgets those who did not come back in time.
    pub(super) fn expire(&self, group: &Arc<Group<H>>, state: &mut State<H>, now_ms: u64) {
        while let Some(at) = state.next_overdue(now_ms) {
            let overdue = state.roster.get(at).filter(|member| {
                member.standing.has(Standing::GRACE) && member.joined_ms() <= now_ms
            });
            if let Some((standing, version)) = overdue.map(|m| (m.standing, m.version)) {
                state.stand(at, standing.without(Standing::GRACE));
                // Every node sees to it itself: no change to be counted.
                if let Some(member) = state.roster.get_mut(at) {
                    member.version = version;
                }
                self.tidy(group, state, at);
            }
        }
    }

    pub(super) fn tidy(&self, group: &Arc<Group<H>>, state: &mut State<H>, at: u32) {
        if let Some(member) = state.tidy(at, |user| self.hash(user)) {
            let hash = self.hash(member.user.bytes());
            self.users.leave(&member.user, hash, group);
        }
    }

    pub(super) fn detach(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        at: u32,
        id: H,
    ) -> bool {
        let had = state.detach(at, id);
        if had {
            self.devices.leave(id, group, at);
        }
        had
    }

    pub(super) fn detach_all(&self, group: &Arc<Group<H>>, state: &mut State<H>, at: u32) {
        while let Some((id, _)) = state.roster.get(at).and_then(|m| m.devices.get(0)) {
            if !self.detach(group, state, at, id) {
                break;
            }
        }
    }

    /// A member is no longer in the group; what is to be remembered of him is.
    pub(super) fn depart(
        &self,
        group: &Arc<Group<H>>,
        state: &mut State<H>,
        at: u32,
        died: bool,
        now_ms: u64,
    ) {
        self.expire(group, state, now_ms);
        let Some(before) = state.roster.get(at).map(|member| member.standing) else {
            return;
        };
        let mut after = before.without(Standing::PRESENT).without(Standing::PENDING);
        after = after.without(Standing::GRACE);
        let accepted = before.status() == Some(Status::Active) && !before.has(Standing::ADMIN);
        let grace = self.bounds.load().grace_ms;
        if died && grace > 0 && accepted && state.kind != GroupType::Public {
            let until = now_ms.saturating_add(grace);
            if let Some(member) = state.roster.get_mut(at) {
                member.set_joined_ms(until);
            }
            state.grant_grace(at, until);
            after = after.with(Standing::GRACE);
        }
        state.changed_ms = state.changed_ms.max(now_ms);
        state.stand(at, after);
        self.tidy(group, state, at);
    }

    /// The place and standing of somebody who is in the group.
    pub(super) fn present(&self, state: &State<H>, user: &str) -> Option<(u32, Standing)> {
        let hash = self.hash(user.as_bytes());
        let at = state.roster.find(user.as_bytes(), hash)?;
        let standing = state.roster.get(at)?.standing;
        standing.has(Standing::PRESENT).then_some((at, standing))
    }

    /// A user leaves with all devices.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`.
    pub fn leave(&self, id: &str, user: &str, now_ms: u64) -> Outcome {
        self.alone(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            self.detach_all(group, state, at);
            self.depart(group, state, at, false, now_ms);
            Ok(())
        })
    }

    /// A user leaves with one device; whether it was his last one.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`.
    pub fn leave_device(&self, id: &str, user: &str, device: H, now_ms: u64) -> Outcome<bool> {
        self.alone(id, |group, state| {
            let (at, _) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            if !self.detach(group, state, at, device) {
                return Err(Refusal::NotInGroup);
            }
            let last = state.roster.get(at).is_some_and(|m| m.devices.is_empty());
            if last {
                self.depart(group, state, at, false, now_ms);
            }
            Ok(last)
        })
    }

    /// A device has ended. Costs a step for each of its groups. Where other nodes have to agree
    /// the user stays a member, see [`Left::stays`].
    pub fn end(&self, device: H, now_ms: u64) -> Vec<Left> {
        let mut left = Vec::new();
        for (group, at) in self.devices.end(device) {
            let Some(group) = group.upgrade() else {
                continue;
            };
            let mut state = group.state.lock();
            // Somebody else's place by now, if the device was taken out in the meantime.
            if !state.detach(at, device) {
                continue;
            }
            let Some(member) = state.roster.get(at) else {
                continue;
            };
            let last = member.devices.is_empty();
            let stays = last && self.shared.load(Ordering::SeqCst);
            left.push(Left {
                group: group.id.clone(),
                user: member.user.id().into(),
                last,
                stays,
            });
            if last && !stays {
                self.depart(&group, &mut state, at, true, now_ms);
            }
        }
        left
    }

    /// Checks that the sender may send, counts the message, and says to whom it goes.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`, `Pending`, `Muted`, `TooFast`.
    pub fn publish(&self, id: &str, user: Option<&str>, now: Nanos) -> Outcome<FanOut<H>> {
        self.with(id, |_group, state| {
            let user = user.ok_or(Refusal::NotInGroup)?;
            let (_, standing) = self.present(state, user).ok_or(Refusal::NotInGroup)?;
            let status = standing.status().ok_or(Refusal::NotInGroup)?;
            let admin = standing.has(Standing::ADMIN);
            if state.kind.allows(Action::Send, status, admin) {
                Ok(())
            } else if status == Status::Muted {
                Err(Refusal::Muted)
            } else {
                Err(Refusal::Pending)
            }
        })?;
        self.pace.charge(id, user, now)?;
        self.fan_out(id)
    }

    /// The same for a message of the server itself: whoever it is said to come from.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn fan_out(&self, id: &str) -> Outcome<FanOut<H>> {
        self.with(id, |_group, state| {
            Ok(FanOut {
                recipients: state.fan(),
                lanes: state.lanes(),
                audience: state.audience,
                remote: state.remote(),
            })
        })
    }

    /// The members at `count` places from `start` on. Pages are read one after the other: a
    /// member who joins or leaves meanwhile may be in it or not.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn page(&self, id: &str, start: usize, count: usize) -> Outcome<Page> {
        self.with(id, |_group, state| {
            let rows = state.roster.slice(start, count);
            let rows = rows
                .filter_map(|member| {
                    Some(Row {
                        user: member.user.id().into(),
                        status: member.standing.status()?,
                        admin: member.standing.has(Standing::ADMIN),
                        joined_ms: member.joined_ms(),
                        devices: member.devices.len(),
                    })
                })
                .collect();
            let next = start.saturating_add(count);
            Ok(Page {
                kind: state.kind,
                rows,
                next: (next < state.roster.end()).then_some(next),
            })
        })
    }

    /// The type of a group, and when and where it was created.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn origin(&self, id: &str) -> Outcome<(GroupType, Created)> {
        self.with(id, |_group, state| Ok((state.kind, state.created)))
    }

    /// The groups that a user is in, with how he stands in each.
    pub fn groups_of(&self, user: &str) -> Vec<(Box<str>, Status)> {
        let groups = self
            .users
            .groups(user, self.hash(user.as_bytes()))
            .into_iter();
        groups
            .filter_map(|group| {
                let state = group.state.lock();
                let (_, standing) = self.present(&state, user)?;
                Some((group.id.clone(), standing.status()?))
            })
            .collect()
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it holds. Linear in the number of groups and users.
    pub fn size(&self) -> Size {
        let (users, of_users) = self.users.size();
        let (devices, of_devices) = self.devices.size();
        let mut size = Size {
            groups: self.len(),
            users,
            devices,
            bytes: of_users + of_devices + self.pace.stats().bytes,
            ..Size::default()
        };
        for group in self.all() {
            let state = group.state.lock();
            size.members += state.present;
            size.bytes += group.id.len() + state.bytes();
        }
        size
    }

    /// Checks that all parts agree; for tests.
    #[doc(hidden)]
    pub fn verify(&self) {
        for group in self.all() {
            group.state.lock().verify();
        }
    }
}

/// A group that was deleted, and who was in it.
#[derive(Debug)]
pub(super) struct Closed<H> {
    group: Arc<Group<H>>,
    roster: Roster<H>,
    present: usize,
}

/// For operations that do something to a member: who, to whom.
#[derive(Copy, Clone, Debug)]
pub(super) struct Parties {
    pub(super) actor: Option<(u32, Standing)>,
    pub(super) target: Option<(u32, Standing)>,
    pub(super) same: bool,
}
