//! Every answer is that of a model written without a thought for cost.

use std::collections::VecDeque;

use gen_api_core::breaker::{
    Breaker, Check, FailureRate, Outcome, Permit, Settings, State, Transition,
};
use gen_api_core::clock::Nanos;
use proptest::prelude::*;

// A time in a breaker is rounded up to a multiple of this; so times that are multiples have no rounding.
const TICK: u64 = 1 << 18;

struct Model {
    settings: Settings,
    phase: Phase,
    // Which period, and the calls of this one.
    period: u64,
    outcomes: VecDeque<Outcome>,
    run: u32,
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
            outcomes: VecDeque::new(),
            run: 0,
        }
    }

    fn turn(&mut self, phase: Phase) {
        self.phase = phase;
        self.period += 1;
    }

    fn check(&mut self, now: u64) -> Answer {
        match self.phase {
            Phase::Closed => return Answer::Allow,
            Phase::Open { until } if now < until => return Answer::Deny(Some(until - now)),
            Phase::HalfOpen { expires } if now < expires => return Answer::Deny(None),
            _ => {}
        }
        let expires = now.saturating_add(self.settings.probe_life.0);
        self.turn(Phase::HalfOpen { expires });
        Answer::Probe
    }

    fn record(&mut self, period: u64, outcome: Outcome, now: u64) -> Transition {
        if period != self.period {
            return Transition::None;
        }
        let probe = matches!(self.phase, Phase::HalfOpen { .. });
        match outcome {
            Outcome::Success => self.run = 0,
            Outcome::Failure => self.run += 1,
        }
        if !probe {
            self.outcomes.push_back(outcome);
        }
        let rate = self.settings.failure_rate.is_some_and(|rate| {
            let last = self.outcomes.iter().rev().take(rate.window as usize);
            self.outcomes.len() >= rate.window as usize
                && last.filter(|o| **o == Outcome::Failure).count() >= rate.failures as usize
        });
        match outcome {
            Outcome::Success if probe => {
                self.outcomes.clear();
                self.turn(Phase::Closed);
                Transition::Closed
            }
            Outcome::Failure if probe || rate || self.run >= self.settings.threshold => {
                let until = now + self.settings.cooldown.0;
                self.turn(Phase::Open { until });
                let consecutive = self.run;
                Transition::Opened { consecutive }
            }
            _ => Transition::None,
        }
    }

    fn give_back(&mut self, period: u64, now: u64) {
        if period == self.period && matches!(self.phase, Phase::HalfOpen { .. }) {
            self.turn(Phase::Open { until: now });
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Check,
    Wait(u64),
    // The outcome of one of the calls under way, not always the oldest.
    End(prop::sample::Index, bool),
    GiveBack(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Check),
        2 => (0..12u64).prop_map(Step::Wait),
        6 => (any::<prop::sample::Index>(), prop::bool::weighted(0.6)).prop_map(|(i, ok)| Step::End(i, ok)),
        1 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    let rate = prop::option::of((1..8u32, 1..10u32));
    let life = prop_oneof![(1..20u64).prop_map(|t| Nanos(t * TICK)), Just(Nanos::MAX)];
    (1..5u32, rate, 0..15u64, life).prop_map(|(threshold, rate, cooldown, probe_life)| Settings {
        threshold,
        failure_rate: rate.map(|(failures, window)| FailureRate { failures, window }),
        cooldown: Nanos(cooldown * TICK),
        probe_life,
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
    fn a_breaker_answers_as_the_model(settings in settings(), steps in prop::collection::vec(step(), 1..120)) {
        let breaker = Breaker::new(settings);
        let mut model = Model::new(settings);
        let mut now = 0;
        let mut calls: Vec<(u64, Permit)> = Vec::new();

        for step in steps {
            match step {
                Step::Wait(ticks) => now += ticks * TICK,
                Step::Check => {
                    let would = breaker.would_allow(Nanos(now));
                    let (expected, real) = (model.check(now), breaker.check(Nanos(now)));
                    prop_assert!(same(&expected, real), "{expected:?}, {real:?}");
                    prop_assert_eq!(would, !matches!(expected, Answer::Deny(_)));
                    if let Check::Allow(permit) | Check::Probe(permit) = real {
                        calls.push((model.period, permit));
                    }
                }
                Step::End(index, ok) if !calls.is_empty() => {
                    let (period, permit) = calls.swap_remove(index.index(calls.len()));
                    let outcome = if ok { Outcome::Success } else { Outcome::Failure };
                    let expected = model.record(period, outcome, now);
                    prop_assert_eq!(breaker.record(permit, outcome, Nanos(now)), expected);
                }
                Step::GiveBack(index) if !calls.is_empty() => {
                    let (period, permit) = calls.swap_remove(index.index(calls.len()));
                    model.give_back(period, now);
                    breaker.give_back(permit, Nanos(now));
                }
                Step::End(..) | Step::GiveBack(_) => {}
            }
            let state = match model.phase {
                Phase::Closed => State::Closed { consecutive: model.run },
                Phase::Open { until } => State::Open { retry_in: Nanos(until.saturating_sub(now)) },
                Phase::HalfOpen { .. } => State::HalfOpen,
            };
            prop_assert_eq!(breaker.state(Nanos(now)), state);
        }
    }
}
