use super::sliding_window::{Requests, SlidingWindow};
use crate::clock::Nanos;

/// What a limit promises, and its numbers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// An exact sliding window.
    SlidingWindow(SlidingWindow),
}

/// The part of a rule that its states depend on: a rule may be replaced by another of the same kind without
/// losing them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    SlidingWindow { window: Nanos },
}

/// What is remembered for one value under a limit.
#[derive(Debug)]
pub(super) enum State {
    SlidingWindow(Requests),
}

/// A request fits; what is needed to record it.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Opening {
    /// When it is recorded.
    pub(super) at: Nanos,
    /// Entries that no longer count by then.
    pub(super) expired: usize,
}

/// A request does not fit.
#[derive(Copy, Clone, Debug)]
pub(super) struct Denial {
    pub(super) retry_after: Nanos,
    pub(super) current: u32,
}

impl Rule {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::SlidingWindow(rule) => Kind::SlidingWindow {
                window: rule.window(),
            },
        }
    }

    /// Most requests that count at one moment.
    pub(super) fn capacity(self) -> u32 {
        match self {
            Self::SlidingWindow(rule) => rule.max_requests(),
        }
    }

    #[inline]
    pub(super) fn probe(self, state: &State, now: Nanos, ahead: u32) -> Result<Opening, Denial> {
        match (self, state) {
            (Self::SlidingWindow(rule), State::SlidingWindow(requests)) => {
                rule.probe(requests, now, ahead)
            }
        }
    }
}

impl Kind {
    /// A state that nothing happened to, whose clock starts at `floor`.
    pub(super) fn state(self, floor: Nanos) -> State {
        match self {
            Self::SlidingWindow { .. } => State::SlidingWindow(Requests::starting(floor)),
        }
    }

    /// How many requests count.
    pub(super) fn current(self, state: &State, now: Nanos) -> usize {
        match (self, state) {
            (Self::SlidingWindow { window }, State::SlidingWindow(requests)) => {
                requests.current(now, window)
            }
        }
    }

    /// Drops what no longer counts; returns how many entries became free.
    pub(super) fn trim(self, state: &mut State, now: Nanos) -> usize {
        match (self, state) {
            (Self::SlidingWindow { window }, State::SlidingWindow(requests)) => {
                requests.trim(now, window)
            }
        }
    }
}

impl State {
    /// Records a request; returns how many entries became free.
    #[inline]
    pub(super) fn admit(&mut self, opening: Opening) -> usize {
        match self {
            Self::SlidingWindow(requests) => requests.admit(opening),
        }
    }

    /// Drops everything; returns how many entries became free, the rest follows with later touches.
    pub(super) fn empty(&mut self, floor: Nanos) -> usize {
        match self {
            Self::SlidingWindow(requests) => requests.empty(floor),
        }
    }

    /// The time before which nothing can happen to it any more.
    pub(super) fn clock(&self) -> Nanos {
        match self {
            Self::SlidingWindow(requests) => requests.clock(),
        }
    }

    /// Whether it says no more than a new one would; memory may be left to free.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::SlidingWindow(requests) => requests.is_empty(),
        }
    }

    /// Entries that take memory.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::SlidingWindow(requests) => requests.held(),
        }
    }

    /// Memory held outside of the value itself.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::SlidingWindow(requests) => requests.bytes(),
        }
    }
}
