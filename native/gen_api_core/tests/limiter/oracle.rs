use gen_api_core::clock::Nanos;
use gen_api_core::limiter::{Decision, Limit, Limiter, Status};
use proptest::prelude::*;

use super::model::{Model, ModelLimit};
use super::{caps, limit, rule};

#[derive(Clone, Debug)]
enum Step {
    /// The clock moves, backwards too.
    Tick(i64),
    Check(Vec<(usize, u8)>),
    Burst(usize, u8, u16),
    Reset(usize, u8),
    Sweep(usize),
    Replace(usize, u32),
    Forget(usize),
    Clear,
}

fn step(limits: usize, most: u32) -> impl Strategy<Value = Step> {
    let charge = (0..limits, 0u8..6);
    prop_oneof![
        6 => (-20i64..40).prop_map(Step::Tick),
        20 => prop::collection::vec(charge.clone(), 1..5).prop_map(Step::Check),
        2 => (charge.clone(), 0..3 * most as u16).prop_map(|((l, v), n)| Step::Burst(l, v, n)),
        1 => charge.prop_map(|(l, v)| Step::Reset(l, v)),
        3 => (0usize..12).prop_map(Step::Sweep),
        1 => (0..limits, 0..most).prop_map(|(l, n)| Step::Replace(l, n)),
        1 => (0..limits).prop_map(Step::Forget),
        1 => Just(Step::Clear),
    ]
}

fn scenario(most: u32, steps: usize) -> impl Strategy<Value = (Vec<(u32, u64)>, Vec<Step>, usize)> {
    let limits = prop::collection::vec((0..most, 1u64..100), 1..5);
    limits.prop_flat_map(move |limits| {
        let count = limits.len();
        (
            Just(limits),
            prop::collection::vec(step(count, most), 1..steps),
            prop_oneof![Just(1usize), Just(4), Just(64)],
        )
    })
}

struct Pair {
    limiter: Limiter,
    limits: Vec<Limit>,
    model: Model,
    model_limits: Vec<ModelLimit>,
    /// So many limits were forgotten.
    forgotten: usize,
    now: u64,
    /// Memory was reclaimed at this time; the model does not know what of.
    swept: u64,
}

impl Pair {
    fn new(limits: &[(u32, u64)], shards: usize) -> Self {
        let limiter = Limiter::new(caps(shards, 1_000_000, 16_000_000));
        let compiled = limits.iter().enumerate();
        let compiled =
            compiled.map(|(i, (max, window))| limit(&limiter, &i.to_string(), *max, *window));
        Self {
            limits: compiled.collect(),
            model_limits: limits
                .iter()
                .enumerate()
                .map(|(id, &(max_requests, window))| ModelLimit {
                    id,
                    max_requests,
                    window,
                })
                .collect(),
            limiter,
            model: Model::default(),
            forgotten: 0,
            now: 1_000,
            swept: 0,
        }
    }

    fn check(&mut self, charges: &[(usize, u8)]) -> Result<Decision, TestCaseError> {
        let values: Vec<[u8; 1]> = charges.iter().map(|(_, value)| [*value]).collect();
        let real: Vec<(&Limit, &[u8])> = charges
            .iter()
            .zip(&values)
            .map(|((limit, _), value)| (&self.limits[*limit], value.as_slice()))
            .collect();
        let model: Vec<(ModelLimit, u8)> = charges
            .iter()
            .map(|(limit, value)| (self.model_limits[*limit], *value))
            .collect();
        let decision = self.limiter.check(&real, Nanos(self.now));
        prop_assert_eq!(decision, self.model.check(&model, self.now));
        Ok(decision)
    }

    fn recompile(&mut self, index: usize, max_requests: u32) {
        let window = self.model_limits[index].window;
        let name = index.to_string();
        self.limits[index] = self
            .limiter
            .limit(name.as_bytes(), rule(max_requests, window));
        self.model_limits[index].max_requests = max_requests;
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Tick(ticks) => {
                self.now = self.now.saturating_add_signed(*ticks).max(self.swept);
            }
            Step::Check(charges) => {
                self.check(charges)?;
            }
            Step::Burst(limit, value, count) => {
                for _ in 0..*count {
                    self.check(&[(*limit, *value)])?;
                }
            }
            Step::Reset(limit, value) => {
                self.limiter.reset(&self.limits[*limit], &[*value]);
                self.model.reset(self.model_limits[*limit], *value);
            }
            Step::Sweep(budget) => {
                self.limiter.sweep(Nanos(self.now), *budget);
                self.swept = self.swept.max(self.now);
            }
            Step::Replace(index, max_requests) => self.recompile(*index, *max_requests),
            Step::Forget(index) => {
                prop_assert!(self.limiter.forget(self.limits[*index].id()));
                self.model.forget(self.model_limits[*index].id);
                self.forgotten += 1;
                self.model_limits[*index].id = 100 * self.forgotten + index;
                self.recompile(*index, self.model_limits[*index].max_requests);
            }
            Step::Clear => {
                self.limiter.clear();
                self.model.clear();
                prop_assert_eq!(self.limiter.stats().entries, 0);
            }
        }
        self.compare()
    }

    /// Every count, and the first moment at which a request would pass, everywhere.
    fn compare(&self) -> Result<(), TestCaseError> {
        let mut live = 0;
        for (limit, model) in self.limits.iter().zip(&self.model_limits) {
            for value in 0..6 {
                let current = self.model.current(*model, value, self.now) as u32;
                live += current as usize;
                let expected = Status {
                    current,
                    remaining: model.max_requests.saturating_sub(current),
                    retry_after: Nanos(self.model.retry_after(*model, value, self.now, 0)),
                };
                let status = self.limiter.peek(limit, &[value], Nanos(self.now));
                prop_assert_eq!(status, expected);
            }
        }
        prop_assert!(self.limiter.stats().entries >= live);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(debug_assertions) { 100 } else { 2_000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_decision_count_and_retry_after_is_that_of_a_naive_log(
        (limits, steps, shards) in scenario(12, 120)
    ) {
        let mut pair = Pair::new(&limits, shards);
        for step in &steps {
            pair.step(step)?;
        }
    }

    #[test]
    fn large_windows_are_as_exact_as_small_ones((limits, steps, shards) in scenario(900, 25)) {
        let mut pair = Pair::new(&limits, shards);
        for step in &steps {
            pair.step(step)?;
        }
    }

    #[test]
    fn when_the_last_window_has_expired_a_sweep_leaves_nothing(
        (limits, steps, shards) in scenario(600, 20)
    ) {
        let mut pair = Pair::new(&limits, shards);
        for step in &steps {
            pair.step(step)?;
        }
        super::sweep_all(&pair.limiter, pair.now + 10_000);
        let stats = pair.limiter.stats();
        prop_assert_eq!((stats.windows, stats.entries), (0, 0));
        let empty = Limiter::new(caps(shards, 1, 1)).stats().bytes;
        prop_assert!(stats.bytes < empty + shards * 400, "{} bytes, {empty} when new", stats.bytes);
    }

    #[test]
    fn under_caps_a_request_overflows_only_if_what_is_live_leaves_no_room(
        limits in prop::collection::vec((0u32..8, 1u64..60), 1..4),
        checks in prop::collection::vec(
            (0u64..25, prop::collection::vec((0usize..4, 0u8..7), 1..4)), 1..200),
        max_keys in 1usize..8,
        max_entries in 0usize..30,
    ) {
        let mut pair = Pair::new(&limits, 1);
        pair.limiter = Limiter::new(caps(1, max_keys, max_entries));
        for (index, (max, _)) in limits.iter().enumerate() {
            pair.recompile(index, *max);
        }
        let mut overflowed = 0;
        for (ticks, charges) in checks {
            pair.now += ticks;
            let charges: Vec<(usize, u8)> =
                charges.iter().map(|(l, v)| (l % limits.len(), *v)).collect();
            let values: Vec<[u8; 1]> = charges.iter().map(|(_, value)| [*value]).collect();
            let real: Vec<(&Limit, &[u8])> = charges
                .iter()
                .zip(&values)
                .map(|((limit, _), value)| (&pair.limits[*limit], value.as_slice()))
                .collect();
            let model: Vec<(ModelLimit, u8)> = charges
                .iter()
                .map(|(limit, value)| (pair.model_limits[*limit], *value))
                .collect();
            let expected = pair.model.check_capped(
                &model, pair.now, &pair.model_limits, max_keys, max_entries);
            let decision = pair.limiter.check(&real, Nanos(pair.now));
            prop_assert_eq!(decision, expected);
            overflowed += u64::from(decision == Decision::Overflow);
            let stats = pair.limiter.stats();
            prop_assert!(stats.entries <= max_entries);
            prop_assert!(stats.windows <= max_keys * limits.len());
            prop_assert_eq!(stats.overflowed, overflowed);
        }
        pair.compare()?;
    }
}
