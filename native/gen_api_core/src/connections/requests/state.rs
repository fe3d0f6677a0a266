//! The requests of a channel as they are, under one lock.

use super::types::{Kind, Limits, Traits};
use crate::sync::AHashMap;
use std::collections::{BTreeMap, VecDeque};

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Executing,
    /// Its acknowledgement is being sent.
    Acknowledging(Kind),
    Running(Kind),
    /// Its process has claimed its last answer.
    Over,
    /// Somebody else has.
    Claimed,
    /// It was cancelled, and its process sends the last frame of a stream.
    Cancelled,
}

impl Phase {
    pub(super) fn is_over(self) -> bool {
        matches!(self, Phase::Over | Phase::Claimed | Phase::Cancelled)
    }
}

#[derive(Debug)]
pub(super) struct Request<P, I> {
    pub(super) id: Box<[u8]>,
    pub(super) traits: Traits,
    /// It counts for [`Limits::running`].
    pub(super) long: bool,
    pub(super) slot: bool,
    pub(super) phase: Phase,
    /// Its process runs its function.
    pub(super) called: bool,
    /// A cancel came while its acknowledgement was being sent.
    pub(super) cancelled: bool,
    pub(super) process: Option<P>,
    pub(super) info: Option<I>,
}

#[derive(Debug)]
pub(super) struct Waiting<I> {
    pub(super) number: u64,
    pub(super) until: i64,
    /// Nothing, of what is no request.
    pub(super) request: Option<(Box<[u8]>, Traits)>,
    pub(super) info: Option<I>,
}

/// The requests of a channel that run one after the other, whatever their events.
#[derive(Debug)]
pub(super) struct Lane<P> {
    /// The last number of any request.
    pub(super) last: u64,
    /// Those that are not over, each with the process of the next one if that waits for it.
    pub(super) active: BTreeMap<u64, Option<P>>,
}

impl<P: Copy> Lane<P> {
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// One starts: whether there are others before it.
    pub(super) fn enter(&mut self, number: u64) -> bool {
        self.active.insert(number, None);
        self.active.range(..number).next().is_some()
    }

    /// The process of one waits for the one before, if there is one.
    pub(super) fn follow(&mut self, number: u64, process: P) -> bool {
        match self.active.range_mut(..number).next_back() {
            Some((_, next)) => {
                *next = Some(process);
                true
            }
            None => false,
        }
    }

    /// One is over: the process that may go on. Who waited for it waits for the one before it.
    pub(super) fn leave(&mut self, number: u64) -> Option<P> {
        let next = self.active.remove(&number)??;
        match self.active.range_mut(..number).next_back() {
            Some((_, before)) => {
                *before = Some(next);
                None
            }
            None => Some(next),
        }
    }
}

#[derive(Debug)]
pub(super) struct State<P, I> {
    pub(super) active: AHashMap<u64, Request<P, I>>,
    pub(super) waiting: VecDeque<Waiting<I>>,
    /// The process where requests wait.
    pub(super) queue: Option<P>,
    pub(super) slots: u32,
    pub(super) long: u32,
    pub(super) closed: bool,
}

impl<I> Waiting<I> {
    pub(super) fn is(&self, id: &[u8]) -> bool {
        matches!(&self.request, Some((own, _traits)) if **own == *id)
    }
}

impl<P: Copy + Eq, I> State<P, I> {
    pub(super) fn free(&self, limits: &Limits) -> bool {
        self.slots < limits.concurrency
    }

    pub(super) fn executes(&self, number: u64) -> bool {
        (self.active.get(&number)).is_some_and(|request| request.phase == Phase::Executing)
    }

    /// A slot whose answer or acknowledgement is being sent is free in a moment.
    pub(super) fn has_room(&self, limits: &Limits) -> bool {
        let leaving = (self.active.values())
            .filter(|request| request.slot && request.phase != Phase::Executing)
            .count();
        self.waiting.len() < (limits.pending as usize).saturating_add(leaving)
    }

    pub(super) fn wake(&self) -> Option<P> {
        if self.waiting.is_empty() {
            None
        } else {
            self.queue
        }
    }
}
