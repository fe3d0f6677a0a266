use crate::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};

use super::window::Window;
use super::word::{Phase, Time, Word};
use super::{Check, Outcome, Permit, Settings, State, Transition};
use crate::clock::Nanos;

/// One circuit breaker. 72 bytes, and the window when there is a failure rate.
#[derive(Debug)]
pub struct Breaker {
    word: AtomicU64,
    // Failures in a row when it opened: only for the report of a probe that fails.
    run: AtomicU32,
    settings: Settings,
    window: Option<Box<Window>>,
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            word: AtomicU64::new(Word::INITIAL),
            run: AtomicU32::new(0),
            settings,
            window: settings
                .failure_rate
                .map(|rate| Box::new(Window::new(rate))),
        }
    }

    /// Whether a call may be made now. What it gives has to be recorded or given back.
    #[inline]
    pub fn check(&self, now: Nanos) -> Check {
        let mut packed = self.word.load(Acquire);
        loop {
            let word = Word::unpack(packed);
            let due = match word.phase {
                Phase::Closed { .. } => return Check::Allow(Permit(word.generation)),
                Phase::Open { until } if !until.has_come(now) => {
                    let retry_in = Some(until.left(now));
                    return Check::Deny { retry_in };
                }
                Phase::HalfOpen { expires } if !expires.has_come(now) => {
                    return Check::Deny { retry_in: None };
                }
                // The cool-down is over, or the probe has vanished.
                Phase::Open { .. } | Phase::HalfOpen { .. } => Phase::HalfOpen {
                    expires: Time::after(now, self.settings.probe_life),
                },
            };
            let probing = word.next(due);
            match self.swap(packed, probing) {
                Ok(()) => return Check::Probe(Permit(probing.generation)),
                Err(current) => packed = current,
            }
        }
    }

    /// Whether [`Breaker::check`] would let a call through now. Takes nothing.
    #[inline]
    #[must_use]
    pub fn would_allow(&self, now: Nanos) -> bool {
        match Word::unpack(self.word.load(Acquire)).phase {
            Phase::Closed { .. } => true,
            Phase::Open { until } => until.has_come(now),
            Phase::HalfOpen { expires } => expires.has_come(now),
        }
    }

    /// A call has ended. Of a permit from an earlier period nothing is kept.
    #[inline]
    pub fn record(&self, permit: Permit, outcome: Outcome, now: Nanos) -> Transition {
        let packed = self.word.load(Acquire);
        if Word::unpack(packed).generation != permit.0 {
            return Transition::None;
        }
        match outcome {
            Outcome::Success => self.success(permit, packed),
            Outcome::Failure => self.failure(permit, packed, now),
        }
    }

    /// A call was not made after all, or ended in a way that says nothing. If it was the probe, the next
    /// call is.
    pub fn give_back(&self, permit: Permit, now: Nanos) {
        let packed = self.word.load(Acquire);
        let word = Word::unpack(packed);
        if word.generation == permit.0 && matches!(word.phase, Phase::HalfOpen { .. }) {
            let until = Time::reached(now);
            // Who else has changed it has let another probe through.
            let _ = self.swap(packed, word.next(Phase::Open { until }));
        }
    }

    /// There is reason to believe that the callee is back: if it is open, its cool-down is over.
    pub fn cut_short(&self, now: Nanos) {
        let packed = self.word.load(Acquire);
        let word = Word::unpack(packed);
        if matches!(word.phase, Phase::Open { until } if !until.has_come(now)) {
            let until = Time::reached(now);
            // Who else has changed it has let a probe through, or knows better.
            let _ = self.swap(packed, word.with(Phase::Open { until }));
        }
    }

    /// What it is doing, for people.
    #[must_use]
    pub fn state(&self, now: Nanos) -> State {
        match Word::unpack(self.word.load(Acquire)).phase {
            Phase::Closed { consecutive } => State::Closed { consecutive },
            Phase::Open { until } => State::Open {
                retry_in: until.left(now),
            },
            Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    fn success(&self, permit: Permit, mut packed: u64) -> Transition {
        let mut noted = self.window.is_none();
        loop {
            let word = Word::unpack(packed);
            if word.generation != permit.0 {
                return Transition::None;
            }
            let next = match word.phase {
                Phase::Closed { consecutive } => {
                    if let (false, Some(window)) = (noted, &self.window) {
                        window.add_success();
                        noted = true;
                    }
                    // Nearly always: nothing is written, the line stays shared between cores.
                    if consecutive == 0 {
                        return Transition::None;
                    }
                    word.with(Phase::Closed { consecutive: 0 })
                }
                Phase::HalfOpen { .. } => {
                    if let Some(window) = &self.window {
                        window.empty();
                    }
                    word.next(Phase::Closed { consecutive: 0 })
                }
                Phase::Open { .. } => return Transition::None,
            };
            match self.swap(packed, next) {
                Ok(()) if next.generation != word.generation => return Transition::Closed,
                Ok(()) => return Transition::None,
                Err(current) => packed = current,
            }
        }
    }

    fn failure(&self, permit: Permit, mut packed: u64, now: Nanos) -> Transition {
        let mut too_many = None;
        loop {
            let word = Word::unpack(packed);
            if word.generation != permit.0 {
                return Transition::None;
            }
            let (opens, consecutive) = match word.phase {
                Phase::Closed { consecutive } => {
                    let too_many = *too_many.get_or_insert_with(|| {
                        self.window
                            .as_ref()
                            .is_some_and(|window| window.add_failure())
                    });
                    let consecutive = consecutive.saturating_add(1);
                    let opens = too_many || consecutive >= self.settings.threshold;
                    (opens, consecutive)
                }
                Phase::HalfOpen { .. } => (true, self.run.load(Relaxed).saturating_add(1)),
                Phase::Open { .. } => return Transition::None,
            };
            let next = if opens {
                let until = Time::after(now, self.settings.cooldown);
                word.next(Phase::Open { until })
            } else {
                word.with(Phase::Closed { consecutive })
            };
            match self.swap(packed, next) {
                Ok(()) if opens => {
                    self.run.store(consecutive, Relaxed);
                    return Transition::Opened { consecutive };
                }
                Ok(()) => return Transition::None,
                Err(current) => packed = current,
            }
        }
    }

    #[inline]
    fn swap(&self, current: u64, next: Word) -> Result<(), u64> {
        self.word
            .compare_exchange(current, next.pack(), AcqRel, Acquire)
            .map(drop)
    }
}
