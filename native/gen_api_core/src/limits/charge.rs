//! A request against the limits that apply to it.

use super::{Applied, Denial, Key, Limits, OnMissing, Value, Verdict, NANOS_PER_MS};
use crate::clock::Nanos;
use crate::limiter::{Decision, Limit};
use crate::sync::atomic::Ordering::Relaxed;
use smallvec::SmallVec;

/// What a request is charged to; four limits need no allocation.
type Charged<'l, 'v> = SmallVec<[(&'l Applied, Value<'v>); 4]>;

impl Limits {
    pub(super) fn charge<'l, 'v>(
        &self,
        applied: impl Iterator<Item = &'l Applied>,
        now: Nanos,
        value_of: &mut impl FnMut(&Key) -> Option<Value<'v>>,
    ) -> Verdict {
        let mut applied = applied;
        let (first, second) = (applied.next(), applied.next());
        let Some(first) = first else {
            return Verdict::Admitted;
        };
        // One limit is the rule, and half the price of the general case.
        if second.is_none() && first.spec.on_missing == OnMissing::Skip {
            return match self.counted(first, value_of) {
                Some(value) => self.charge_one(first, &value, now),
                None => Verdict::Admitted,
            };
        }
        self.charge_all(
            [first].into_iter().chain(second).chain(applied),
            now,
            value_of,
        )
    }

    #[inline]
    fn counted<'v>(
        &self,
        applied: &Applied,
        value_of: &mut impl FnMut(&Key) -> Option<Value<'v>>,
    ) -> Option<Value<'v>> {
        self.key(&applied.spec.key, value_of(&applied.spec.key)?)
    }

    #[inline]
    fn charge_one(&self, applied: &Applied, value: &[u8], now: Nanos) -> Verdict {
        match self.limiter.check_one(&applied.limit, value, now) {
            Decision::Admitted => Verdict::Admitted,
            Decision::Overflow => Verdict::Overflow,
            Decision::Denied {
                retry_after,
                current,
                ..
            } => denied(applied, value, current, retry_after),
        }
    }

    fn charge_all<'l, 'v>(
        &self,
        applied: impl Iterator<Item = &'l Applied>,
        now: Nanos,
        value_of: &mut impl FnMut(&Key) -> Option<Value<'v>>,
    ) -> Verdict {
        let mut charged: Charged = SmallVec::new();
        let mut refused: Option<&Applied> = None;
        for applied in applied {
            let value = self.counted(applied, value_of);
            match (value, applied.spec.on_missing) {
                (Some(value), _) => charge_once(&mut charged, applied, value),
                (None, OnMissing::Skip) => {}
                // No value is empty, so this window is shared with none that has one.
                (None, OnMissing::Shared) => {
                    charge_once(&mut charged, applied, Value::Borrowed(&[]));
                }
                (None, OnMissing::Deny) => {
                    let longer = |other: &&Applied| other.spec.window_ms >= applied.spec.window_ms;
                    refused = refused.filter(longer).or(Some(applied));
                }
            }
        }
        if let Some(applied) = refused {
            return self.refuse(applied, &charged, now);
        }
        let charges: SmallVec<[(&Limit, &[u8]); 4]> = charged
            .iter()
            .map(|(applied, value)| (&applied.limit, value.as_ref()))
            .collect();
        match self.limiter.check(&charges, now) {
            Decision::Admitted => Verdict::Admitted,
            Decision::Overflow => {
                if charges.len() > 1 && self.fail_open.load(Relaxed) {
                    // The request passes. Were it counted nowhere, a flood of values under one
                    // of its limits would lift the others.
                    for charge in &charges {
                        self.limiter.check(std::slice::from_ref(charge), now);
                    }
                }
                Verdict::Overflow
            }
            Decision::Denied {
                index,
                retry_after,
                current,
            } => match charged.get(index) {
                Some((applied, value)) => denied(applied, value, current, retry_after),
                None => Verdict::Admitted,
            },
        }
    }

    /// A request without a value that has to have one; another limit may deny it for longer.
    fn refuse(&self, applied: &Applied, charged: &[(&Applied, Value<'_>)], now: Nanos) -> Verdict {
        let mut denial = Denial {
            spec: applied.spec.clone(),
            missing: true,
            current: 0,
            retry_after_ms: applied.spec.window_ms.max(1),
        };
        for (other, value) in charged {
            let status = self.limiter.peek(&other.limit, value, now);
            let retry_after_ms = whole_ms(status.retry_after);
            if status.remaining == 0 && retry_after_ms > denial.retry_after_ms {
                denial = Denial {
                    spec: other.spec.clone(),
                    missing: value.is_empty(),
                    current: status.current,
                    retry_after_ms,
                };
            }
        }
        Verdict::Denied(Box::new(denial))
    }
}

/// Limits that differ in their maximum only have one window in common, where a request counts
/// once: the strictest of them decides for all.
fn charge_once<'l, 'v>(charged: &mut Charged<'l, 'v>, applied: &'l Applied, value: Value<'v>) {
    let id = applied.limit.id();
    match charged.iter_mut().find(|(other, _)| other.limit.id() == id) {
        Some((other, _)) if applied.spec.max_requests < other.spec.max_requests => *other = applied,
        Some(_) => {}
        None => charged.push((applied, value)),
    }
}

#[cold]
fn denied(applied: &Applied, value: &[u8], current: u32, retry_after: Nanos) -> Verdict {
    Verdict::Denied(Box::new(Denial {
        spec: applied.spec.clone(),
        missing: value.is_empty(),
        current,
        retry_after_ms: whole_ms(retry_after),
    }))
}

fn whole_ms(time: Nanos) -> u64 {
    time.0.div_ceil(NANOS_PER_MS).max(1)
}
