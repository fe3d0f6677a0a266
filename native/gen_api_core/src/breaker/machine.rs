use crate::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

use super::packed_state::{PackedState, PackedTime, Phase};
use super::window::{too_many, Window};
use super::{Caller, Check, Outcome, Permit, Settings, State, Transition};
use crate::clock::Nanos;

/// One circuit breaker. Some 600 bytes, and up to 3 KiB while there are failures.
#[derive(Debug)]
pub struct Breaker {
    state: AtomicU64,
    // Failures when it opened: only for the report of a probe that fails.
    opened_by: AtomicU32,
    settings: Settings,
    window: Window,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            state: AtomicU64::new(PackedState::INITIAL),
            opened_by: AtomicU32::new(0),
            settings,
            window: Window::new(),
        }
    }

    /// Whether a call may be made now. What it gives has to be recorded or given back.
    #[inline]
    pub fn check(&self, now: Nanos) -> Check {
        let mut packed = self.state.load(Acquire);
        loop {
            let state = PackedState::unpack(packed);
            let due = match state.phase {
                Phase::Closed => return Check::Allow(Permit::new(state.generation)),
                Phase::Open { until } if !until.has_come(now) => {
                    let retry_in = Some(until.left(now));
                    return Check::Deny { retry_in };
                }
                Phase::HalfOpen { expires } if !expires.has_come(now) => {
                    return Check::Deny { retry_in: None };
                }
                // The cool-down is over, or the probe has taken as long as one.
                Phase::Open { .. } | Phase::HalfOpen { .. } => {
                    PackedTime::after(now, self.settings.cooldown)
                }
            };
            let phase = Phase::HalfOpen { expires: due };
            // The success of a slow probe still closes it: the same period.
            let probing = match state.phase {
                Phase::HalfOpen { .. } => state.with(phase),
                _ => state.next(phase),
            };
            match self.swap(packed, probing) {
                Ok(()) => {
                    return Check::Probe(Permit {
                        generation: probing.generation,
                        expires: due,
                    })
                }
                Err(current) => packed = current,
            }
        }
    }

    /// Whether [`Breaker::check`] would let a call through now. Takes nothing.
    #[inline]
    #[must_use]
    pub fn would_allow(&self, now: Nanos) -> bool {
        match PackedState::unpack(self.state.load(Acquire)).phase {
            Phase::Closed => true,
            Phase::Open { until } => until.has_come(now),
            Phase::HalfOpen { expires } => expires.has_come(now),
        }
    }

    /// A call has ended. Of a permit from an earlier period nothing is kept.
    #[inline]
    pub fn record(
        &self,
        permit: Permit,
        outcome: Outcome,
        caller: Option<Caller>,
        now: Nanos,
    ) -> Transition {
        let packed = self.state.load(Acquire);
        let state = PackedState::unpack(packed);
        if state.generation != permit.generation {
            return Transition::None;
        }
        match (state.phase, outcome) {
            (Phase::Closed, Outcome::Success) => {
                self.window.add_success(caller, now);
                Transition::None
            }
            (Phase::Closed, Outcome::Failure | Outcome::Lost) => {
                let lost = outcome == Outcome::Lost;
                let counts = self.window.add_failure(lost, caller, &self.settings, now);
                if too_many(counts, &self.settings) {
                    let failures = u32::try_from(counts.failures).unwrap_or(u32::MAX);
                    self.open(packed, failures, now)
                } else {
                    Transition::None
                }
            }
            (Phase::HalfOpen { .. }, Outcome::Success) => self.close(permit, packed),
            (Phase::HalfOpen { .. }, _) if permit.expires.has_come(now) => Transition::None,
            (Phase::HalfOpen { .. }, _) => {
                let failures = self.opened_by.load(Relaxed).saturating_add(1);
                self.open(packed, failures, now)
            }
            (Phase::Open { .. }, _) => Transition::None,
        }
    }

    /// A call was not made after all, or ended in a way that says nothing. If it was the probe, the next
    /// call is.
    pub fn give_back(&self, permit: Permit, now: Nanos) {
        let packed = self.state.load(Acquire);
        let state = PackedState::unpack(packed);
        let expires = permit.expires;
        // Not where another has become the probe in the meantime.
        if state.generation == permit.generation && state.phase == (Phase::HalfOpen { expires }) {
            let until = PackedTime::reached(now);
            // Who else has changed it has let another probe through.
            let _ = self.swap(packed, state.next(Phase::Open { until }));
        }
    }

    /// There is reason to believe that the callee is back: if it is open, its cool-down is over.
    pub fn end_cooldown(&self, now: Nanos) {
        let packed = self.state.load(Acquire);
        let state = PackedState::unpack(packed);
        if matches!(state.phase, Phase::Open { until } if !until.has_come(now)) {
            let until = PackedTime::reached(now);
            // Who else has changed it has let a probe through, or knows better.
            let _ = self.swap(packed, state.with(Phase::Open { until }));
        }
    }

    /// What it is doing, for people.
    #[must_use]
    pub fn state(&self, now: Nanos) -> State {
        match PackedState::unpack(self.state.load(Acquire)).phase {
            Phase::Closed => State::Closed,
            Phase::Open { until } => State::Open {
                retry_in: until.left(now),
            },
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// The failures that count now, while it is closed.
    #[must_use]
    pub fn failures(&self, now: Nanos) -> u32 {
        u32::try_from(self.window.counts(now).failures).unwrap_or(u32::MAX)
    }

    /// Whether it is closed and no call has ended for as long as calls are looked at.
    #[must_use]
    pub fn is_idle(&self, now: Nanos) -> bool {
        self.state(now) == State::Closed && self.window.is_idle(now)
    }

    /// Memory held beyond its own, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.window.bytes()
    }

    fn open(&self, packed: u64, failures: u32, now: Nanos) -> Transition {
        let until = PackedTime::after(now, self.settings.cooldown);
        let opened = PackedState::unpack(packed).next(Phase::Open { until });
        // Who else has changed it has opened it, or begun another period.
        if self.swap(packed, opened).is_err() {
            return Transition::None;
        }
        self.opened_by.store(failures, Relaxed);
        Transition::Opened { failures }
    }

    fn close(&self, permit: Permit, mut packed: u64) -> Transition {
        loop {
            let state = PackedState::unpack(packed);
            if state.generation != permit.generation {
                return Transition::None;
            }
            // Nothing is added before it is closed.
            self.window.empty();
            match self.swap(packed, state.next(Phase::Closed)) {
                Ok(()) => return Transition::Closed,
                // Another probe has begun.
                Err(current) => packed = current,
            }
        }
    }

    #[inline]
    fn swap(&self, current: u64, next: PackedState) -> Result<(), u64> {
        self.state
            .compare_exchange(current, next.pack(), AcqRel, Acquire)
            .map(drop)
    }
}
