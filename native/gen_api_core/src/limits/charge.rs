//! A request against the limits that apply to it.

use super::{ActiveLimit, Denial, Key, Limits, OnMissing, Value, Verdict, NANOS_PER_MS};
use crate::clock::Nanos;
use crate::limiter::{Decision, Limit};
use crate::sync::atomic::Ordering::Relaxed;
use smallvec::SmallVec;

/// What a request is charged to; four limits need no allocation.
type Charged<'l, 'v> = SmallVec<[(&'l ActiveLimit, Value<'v>); 4]>;

impl Limits {
    pub(super) fn charge<'l, 'v>(
        &self,
        active: impl Iterator<Item = &'l ActiveLimit>,
        now: Nanos,
        value_of: &mut impl FnMut(&Key) -> Option<Value<'v>>,
    ) -> Verdict {
        let mut active = active;
        let (first, second) = (active.next(), active.next());
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
            [first].into_iter().chain(second).chain(active),
            now,
            value_of,
        )
    }

    #[inline]
    fn counted<'v>(
        &self,
        active: &ActiveLimit,
        value_of: &mut impl FnMut(&Key) -> Option<Value<'v>>,
    ) -> Option<Value<'v>> {
        self.key(&active.spec.key, value_of(&active.spec.key)?)
    }

    #[inline]
    fn charge_one(&self, active: &ActiveLimit, value: &[u8], now: Nanos) -> Verdict {
        match self.limiter.check_one(&active.limit, value, now) {
            Decision::Admitted => Verdict::Admitted,
            Decision::Overflow => Verdict::Overflow,
            Decision::Denied {
                retry_after,
                current,
                ..
            } => denied(active, value, current, retry_after),
        }
    }

    fn charge_all<'l, 'v>(
        &self,
        active: impl Iterator<Item = &'l ActiveLimit>,
        now: Nanos,
        value_of: &mut impl FnMut(&Key) -> Option<Value<'v>>,
    ) -> Verdict {
        let mut charged: Charged = SmallVec::new();
        let mut refused: Option<&ActiveLimit> = None;
        for active in active {
            let value = self.counted(active, value_of);
            match (value, active.spec.on_missing) {
                (Some(value), _) => charge_once(&mut charged, active, value),
                (None, OnMissing::Skip) => {}
                // No value is empty, so this window is shared with none that has one.
                (None, OnMissing::Shared) => {
                    charge_once(&mut charged, active, Value::Borrowed(&[]));
                }
                (None, OnMissing::Deny) => {
                    let longer =
                        |other: &&ActiveLimit| other.spec.window_ms >= active.spec.window_ms;
                    refused = refused.filter(longer).or(Some(active));
                }
            }
        }
        if let Some(active) = refused {
            return self.refuse(active, &charged, now);
        }
        let charges: SmallVec<[(&Limit, &[u8]); 4]> = charged
            .iter()
            .map(|(active, value)| (&active.limit, value.as_ref()))
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
                Some((active, value)) => denied(active, value, current, retry_after),
                None => Verdict::Admitted,
            },
        }
    }

    /// A request without a value that has to have one; another limit may deny it for longer.
    fn refuse(
        &self,
        active: &ActiveLimit,
        charged: &[(&ActiveLimit, Value<'_>)],
        now: Nanos,
    ) -> Verdict {
        let mut denial = Denial {
            spec: active.spec.clone(),
            missing: true,
            current: 0,
            retry_after_ms: active.spec.window_ms.max(1),
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
fn charge_once<'l, 'v>(charged: &mut Charged<'l, 'v>, active: &'l ActiveLimit, value: Value<'v>) {
    let id = active.limit.id();
    match charged.iter_mut().find(|(other, _)| other.limit.id() == id) {
        Some((other, _)) if active.spec.max_requests < other.spec.max_requests => *other = active,
        Some(_) => {}
        None => charged.push((active, value)),
    }
}

#[cold]
fn denied(active: &ActiveLimit, value: &[u8], current: u32, retry_after: Nanos) -> Verdict {
    Verdict::Denied(Box::new(Denial {
        spec: active.spec.clone(),
        missing: value.is_empty(),
        current,
        retry_after_ms: whole_ms(retry_after),
    }))
}

fn whole_ms(time: Nanos) -> u64 {
    time.0.div_ceil(NANOS_PER_MS).max(1)
}
