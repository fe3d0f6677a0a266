//! Every answer is that of a model written without a thought for cost.

use std::collections::BTreeSet;

use gen_api_core::breaker::{Breaker, Caller, Check, Outcome, Permit, Settings, State, Transition};
use gen_api_core::clock::Nanos;
use proptest::prelude::*;

// About a quarter of a second. A time in a breaker is rounded up to a multiple of 2^18 ns; so times that are
// multiples have no rounding.
const TICK: u64 = 954 << 18;

struct Model {
    settings: Settings,
    phase: Phase,
    // Which period, and the calls of this one.
    period: u64,
    calls: Vec<(u64, Option<u32>, Outcome)>,
    // Whenever anybody's call ended while it was closed.
    seen: Vec<(u64, u32)>,
    opened_by: u32,
}

enum Phase {
    Closed,
    Open { until: u64 },
    HalfOpen { expires: u64 },
}

#[derive(Debug, PartialEq)]
enum Answer {
    Allow,
    Probe,
    Deny(Option<u64>),
}

impl Model {
    fn new(settings: Settings) -> Self {
        Model {
            settings,
            phase: Phase::Closed,
            period: 0,
            calls: Vec::new(),
            seen: Vec::new(),
            opened_by: 0,
        }
    }

    fn turn(&mut self, phase: Phase) {
        self.phase = phase;
        self.period += 1;
    }

    fn check(&mut self, now: u64) -> Answer {
        let expires = now.saturating_add(self.settings.cooldown.0);
        match self.phase {
            Phase::Closed => Answer::Allow,
            Phase::Open { until } if now < until => Answer::Deny(Some(until - now)),
            Phase::HalfOpen { expires } if now < expires => Answer::Deny(None),
            Phase::Open { .. } => {
                self.turn(Phase::HalfOpen { expires });
                Answer::Probe
            }
            Phase::HalfOpen { .. } => {
                self.phase = Phase::HalfOpen { expires };
                Answer::Probe
            }
        }
    }

    /// Calls and failures of the last `length` seconds.
    fn count_last(&self, length: u64, now: u64) -> (usize, usize) {
        let within = |at: u64| now / SECOND - at / SECOND < length;
        let calls: Vec<_> = self.calls.iter().filter(|call| within(call.0)).collect();
        let seen = self
            .seen
            .iter()
            .filter(|(at, _)| now / SECOND - at / SECOND < 60);
        let callers: BTreeSet<u32> = seen.map(|(_, caller)| *caller).collect();
        let cap = if callers.len() > 1 {
            self.settings.threshold as usize - 1
        } else {
            usize::MAX
        };
        let of = |outcome, caller| {
            let of = calls.iter().filter(|c| c.2 == outcome && c.1 == caller);
            of.count()
        };
        let capped = callers
            .iter()
            .map(|caller| of(Outcome::Failure, Some(*caller)).min(cap));
        let lost = calls.iter().filter(|call| call.2 == Outcome::Lost).count();
        let failures = capped.sum::<usize>() + of(Outcome::Failure, None) + lost;
        let successes = calls.iter().filter(|call| call.2 == Outcome::Success);
        (successes.count() + failures, failures)
    }

    fn count(&self, now: u64) -> (usize, usize) {
        match self.count_last(10, now) {
            (calls, _) if calls < 10 => self.count_last(60, now),
            counts => counts,
        }
    }

    fn record(
        &mut self,
        (period, expires): (u64, u64),
        outcome: Outcome,
        caller: Option<u32>,
        now: u64,
    ) -> Transition {
        if period != self.period {
            return Transition::None;
        }
        let failed = outcome != Outcome::Success;
        let opens = match self.phase {
            Phase::HalfOpen { .. } if !failed => {
                self.calls.clear();
                self.turn(Phase::Closed);
                return Transition::Closed;
            }
            Phase::HalfOpen { .. } if now < expires => Some(self.opened_by + 1),
            Phase::HalfOpen { .. } => None,
            _ => {
                self.calls.push((now, caller, outcome));
                self.seen.extend(caller.map(|caller| (now, caller)));
                let (calls, failures) = self.count(now);
                let enough = failures >= self.settings.threshold as usize;
                let rate = failures as f64 >= self.settings.failure_rate * calls as f64;
                (failed && enough && rate).then_some(failures as u32)
            }
        };
        let Some(failures) = opens else {
            return Transition::None;
        };
        self.opened_by = failures;
        let until = now + self.settings.cooldown.0;
        self.turn(Phase::Open { until });
        Transition::Opened { failures }
    }

    fn give_back(&mut self, (period, own): (u64, u64), now: u64) {
        let is_it = matches!(self.phase, Phase::HalfOpen { expires } if expires == own);
        if period == self.period && is_it {
            self.turn(Phase::Open { until: now });
        }
    }

    fn permit(&self) -> (u64, u64) {
        match self.phase {
            Phase::HalfOpen { expires } => (self.period, expires),
            _ => (self.period, u64::MAX),
        }
    }
}

const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Check,
    Wait(u64),
    // The outcome of one of the calls under way, not always the oldest.
    End(prop::sample::Index, Outcome, Option<u32>),
    GiveBack(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        5 => Just(Outcome::Success),
        4 => Just(Outcome::Failure),
        1 => Just(Outcome::Lost),
    ];
    let caller =
        prop_oneof![4 => Just(Some(1)), 2 => Just(Some(2)), 1 => Just(Some(3)), 1 => Just(None)];
    prop_oneof![
        6 => Just(Step::Check),
        1 => (0..12u64).prop_map(Step::Wait),
        1 => (0..150u64).prop_map(Step::Wait),
        8 => (any::<prop::sample::Index>(), outcome, caller).prop_map(|(i, o, c)| Step::End(i, o, c)),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (1..5u32, 0..5u32, 0..15u64).prop_map(|(threshold, rate, cooldown)| Settings {
        threshold,
        failure_rate: f64::from(rate) / 4.0,
        cooldown: Nanos(cooldown * TICK),
    })
}

fn same(model: &Answer, real: Check) -> bool {
    match (model, real) {
        (Answer::Allow, Check::Allow(_)) | (Answer::Probe, Check::Probe(_)) => true,
        (Answer::Deny(wait), Check::Deny { retry_in }) => *wait == retry_in.map(|Nanos(ns)| ns),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_breaker_answers_as_the_model(settings in settings(), steps in prop::collection::vec(step(), 1..200)) {
        let breaker = Breaker::new(settings);
        let mut model = Model::new(settings);
        let mut now = 0;
        let mut calls: Vec<((u64, u64), Permit)> = Vec::new();

        for step in steps {
            match step {
                Step::Wait(ticks) => now += ticks * TICK,
                Step::Check => {
                    let would = breaker.would_allow(Nanos(now));
                    let (expected, real) = (model.check(now), breaker.check(Nanos(now)));
                    prop_assert!(same(&expected, real), "{expected:?}, {real:?}");
                    prop_assert_eq!(would, !matches!(expected, Answer::Deny(_)));
                    if let Check::Allow(permit) | Check::Probe(permit) = real {
                        calls.push((model.permit(), permit));
                    }
                }
                Step::End(index, outcome, caller) if !calls.is_empty() => {
                    let (period, permit) = calls.swap_remove(index.index(calls.len()));
                    let expected = model.record(period, outcome, caller, now);
                    let caller = caller.map(Caller);
                    prop_assert_eq!(breaker.record(permit, outcome, caller, Nanos(now)), expected);
                }
                Step::GiveBack(index) if !calls.is_empty() => {
                    let (period, permit) = calls.swap_remove(index.index(calls.len()));
                    model.give_back(period, now);
                    breaker.give_back(permit, Nanos(now));
                }
                Step::End(..) | Step::GiveBack(_) => {}
            }
            let state = match model.phase {
                Phase::Closed => State::Closed,
                Phase::Open { until } => State::Open { retry_in: Nanos(until.saturating_sub(now)) },
                Phase::HalfOpen { .. } => State::HalfOpen,
            };
            prop_assert_eq!(breaker.state(Nanos(now)), state);
            if state == State::Closed {
                let (all, failures) = model.count(now);
                prop_assert_eq!(breaker.failures(Nanos(now)) as usize, failures);
                prop_assert_eq!(breaker.is_idle(Nanos(now)), all == 0);
            }
        }
    }
}
