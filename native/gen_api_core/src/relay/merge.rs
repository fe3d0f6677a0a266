//! What two nodes know of a group is united.

use super::group::{Group, State};
use super::index::Relay;
use super::member::{Member, Standing};
use super::share::{Origin, Record};
use super::turns::Turns;
use std::hash::Hash;
use std::sync::Arc;

/// Far more than all nodes of one relay may count the version of a record on while they unite, by one for each
/// other node, and not all of them by as many.
const AHEAD: u32 = 4_096;

/// What came of it that two nodes have united what they know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Users whose devices have been taken out here.
    pub out: Vec<Box<str>>,
    /// Records of which the other node has missed the end: as they are now.
    pub forgotten: Vec<Record>,
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Unites what another node knows of a group with what is known here.
    ///
    /// Where both nodes have changed a group on their own (`apart`), or have each created it, the
    /// type and the admins of the older creation win, members unite, muted beats active beats
    /// pending, and a ban beats them all. Otherwise the later version of a record wins.
    pub fn merge(
        &self,
        id: &str,
        origin: Origin,
        node: u32,
        apart: bool,
        records: &[(Record, bool)],
    ) -> Merged {
        let merged = self.with_new(id, origin, |group, state| {
            let mut turns = Turns::new(group, state);
            self.united(group, &mut turns, origin, node, apart, records)
        });
        // A group that is deleted on the way might as well have been deleted afterwards.
        merged.flatten().unwrap_or_default()
    }

    /// None if the group was deleted meanwhile.
    fn united(
        &self,
        group: &Arc<Group<H>>,
        turns: &mut Turns<'_, H>,
        origin: Origin,
        node: u32,
        apart: bool,
        records: &[(Record, bool)],
    ) -> Option<Merged> {
        let mut merged = Merged::default();
        let state = turns.next()?;
        let (ours, clock) = (state.created, state.clock);
        state.changed_ms = state.changed_ms.max(origin.changed_ms);
        if origin.created < ours {
            state.kind = origin.kind;
            state.created = origin.created;
            self.dismiss(group, turns)?;
        }
        let apart = apart || ours != origin.created;
        for (record, there) in records {
            let state = turns.next()?;
            if !apart && !there && self.has_forgotten(state, clock, record) {
                merged.forgotten.push(self.record(state, &record.user));
                continue;
            }
            let Some(at) = self.place(group, state, &record.user) else {
                continue;
            };
            Self::mark(state, at, node, *there);
            let mut theirs = record.clone();
            if ours < origin.created {
                theirs.standing = theirs.standing.without(Standing::ADMIN);
            }
            let Some(united) = unite(state.roster.get(at), &theirs, apart) else {
                continue;
            };
            Self::copy(state, at, &united);
            let devices = state.roster.get(at).is_some_and(|m| !m.devices.is_empty());
            if devices && !united.standing.has(Standing::PRESENT) {
                self.detach_all(group, state, at);
                merged.out.push(record.user.clone());
            }
            self.tidy(group, state, at);
        }
        if apart {
            // Or what is decided here next would be older than what others have made of the same.
            let state = turns.next()?;
            state.clock = state.clock.saturating_add(AHEAD);
        }
        Some(merged)
    }

    /// Whether there was something to remember of somebody, and that had ended at that time, which the other node
    /// has missed.
    fn has_forgotten(&self, state: &State<H>, clock: u32, record: &Record) -> bool {
        let hash = self.hash(record.user.as_bytes());
        !record.standing.has(Standing::PRESENT)
            && record.version <= clock
            && state.roster.find(record.user.as_bytes(), hash).is_none()
    }

    /// Nobody is an admin any more. None if the group was deleted meanwhile.
    fn dismiss(&self, group: &Arc<Group<H>>, turns: &mut Turns<'_, H>) -> Option<()> {
        let mut at = 0;
        loop {
            let state = turns.next()?;
            if at as usize >= state.roster.end() {
                return Some(());
            }
            let known = state.roster.get(at).map(|m| (m.standing, m.version));
            if let Some((standing, version)) = known {
                state.stand(at, standing.without(Standing::ADMIN));
                // The other node takes it away in its copy as well: no change to be counted.
                if let Some(member) = state.roster.get_mut(at) {
                    member.version = version;
                }
                self.tidy(group, state, at);
            }
            at += 1;
        }
    }
}

/// What becomes of two records of one user; none if ours stays.
fn unite<H>(ours: Option<&Member<H>>, theirs: &Record, apart: bool) -> Option<Record> {
    let ours = ours?;
    let (a, b) = (ours.standing, theirs.standing);
    if !apart || ours.version == 0 {
        let newer = (theirs.version, b.bits()) > (ours.version, a.bits());
        return newer.then(|| theirs.clone());
    }
    let present = Standing::PRESENT;
    let mut united = Standing::from_bits(a.bits() | b.bits());
    let waits = |standing: Standing| !standing.has(present) || standing.has(Standing::PENDING);
    if !(waits(a) && waits(b)) || united.has(Standing::MUTED) || united.has(Standing::ADMIN) {
        united = united.without(Standing::PENDING);
    }
    if united.has(Standing::BANNED) {
        united = united.without(present).without(Standing::PENDING);
        united = united.without(Standing::ADMIN).without(Standing::GRACE);
    }
    if united.has(present) {
        united = united.without(Standing::GRACE);
    }
    let version = ours.version.max(theirs.version);
    Some(Record {
        user: theirs.user.clone(),
        standing: united,
        version: version.saturating_add(u32::from(a != b)),
        joined_ms: match (a.has(present), b.has(present)) {
            (true, true) => ours.joined_ms().min(theirs.joined_ms),
            (true, false) => ours.joined_ms(),
            _ => theirs.joined_ms,
        },
    })
}
