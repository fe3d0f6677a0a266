//! Which limits a request is charged to.
//!
//! A [`Limits`] holds a limiter and the limits in force. They are one immutable value behind
//! one pointer, so a change takes effect at once and a check never waits for one. A plan
//! holds a [`Scope`] of its function, which says whether any limit applies: where none does, a
//! request pays two loads and nothing else.

mod in_force;
mod spec;

pub use in_force::Applied;
pub use spec::{Key, OnMissing, ScopeName, Spec};

use crate::clock::Nanos;
use crate::limiter::{Caps, Decision, Limit, Limiter, Rule, SlidingWindow, Status};
use ahash::AHashSet;
use arc_swap::ArcSwap;
use in_force::{ByFunction, InForce};
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

const NANOS_PER_MS: u64 = 1_000_000;

/// Why a request is not admitted.
#[derive(Debug)]
pub struct Denial {
    /// The limit that denies it for the longest time.
    pub spec: Spec,
    /// Whether there was no value to count by.
    pub missing: bool,
    /// Requests in its window.
    pub current: u32,
    /// The time until this request could be admitted, in whole milliseconds, at least one.
    pub retry_after_ms: u64,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It may pass and is counted, where something counts it.
    Admitted,
    /// It may not, and nothing was counted.
    Denied(Box<Denial>),
    /// There was no room to count it.
    Overflow,
}

/// Bytes to count by.
pub type Value<'v> = std::borrow::Cow<'v, [u8]>;

/// What a request is charged to; four limits need no allocation.
type Charged<'l, 'v> = SmallVec<[(&'l Applied, Value<'v>); 4]>;

/// Whether requests of one function are limited by limits of its own.
#[derive(Debug, Default)]
pub struct Scope {
    api: AtomicBool,
    global: Arc<AtomicBool>,
}

impl Scope {
    /// Whether a check could do anything.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.api.load(Relaxed) || self.global.load(Relaxed)
    }
}

/// A limiter and the limits in force.
#[derive(Debug)]
pub struct Limits {
    limiter: Limiter,
    in_force: ArcSwap<InForce>,
    global: Arc<AtomicBool>,
    fail_open: AtomicBool,
    // Also the turn of those who change limits: a scope that is made while limits change is
    // either there to be told or made from the new ones.
    scopes: Mutex<ByFunction<Arc<Scope>>>,
}

impl Limits {
    /// No limits yet.
    pub fn new(caps: Caps) -> Self {
        Limits {
            limiter: Limiter::new(caps),
            in_force: ArcSwap::default(),
            global: Arc::default(),
            fail_open: AtomicBool::default(),
            scopes: Mutex::default(),
        }
    }

    /// The limiter.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// The scope of a function, the same for all its versions.
    pub fn scope(&self, service: &str, request_type: &str) -> Arc<Scope> {
        let mut scopes = self.scopes.lock();
        let in_force = self.in_force.load();
        let api = in_force.limits(service, request_type);
        let functions = scopes.entry(service.into()).or_default();
        let scope = functions.entry(request_type.into()).or_insert_with(|| {
            Arc::new(Scope {
                api: AtomicBool::new(api),
                global: Arc::clone(&self.global),
            })
        });
        Arc::clone(scope)
    }

    /// Whether a request passes that there is no room to count. Then it is counted where there
    /// is room; otherwise (the default) nowhere.
    pub fn set_fail_open(&self, fail_open: bool) {
        self.fail_open.store(fail_open, Relaxed);
    }

    /// Replaces all limits in one step. A limit with the scope, key and window of an earlier
    /// one goes on with its counts; the others are forgotten. Specs that no window can hold
    /// (a window of no length) are left out.
    pub fn configure(&self, enabled: bool, specs: Vec<Spec>) {
        let mut scopes = self.scopes.lock();
        let mut next = InForce {
            enabled,
            ..InForce::default()
        };
        for spec in specs {
            let window = Nanos(spec.window_ms.saturating_mul(NANOS_PER_MS));
            let Some(rule) = SlidingWindow::new(spec.max_requests, window) else {
                continue;
            };
            let limit = self.limiter.limit(&spec.name(), Rule::SlidingWindow(rule));
            let scope = spec.scope.clone();
            let applied = Applied { spec, limit };
            match scope {
                None => next.global.push(applied),
                Some((service, request_type)) => {
                    let functions = next.api.entry(service).or_default();
                    functions.entry(request_type).or_default().push(applied);
                }
            }
        }
        let kept: AHashSet<_> = next.all().map(|applied| applied.limit.id()).collect();
        // Plans are told before limits are in force, and that there are none only after: a
        // check that finds nothing to charge is harmless, a request that is not checked is not.
        let global = enabled && !next.global.is_empty();
        let next = Arc::new(next);
        self.global.fetch_or(global, Relaxed);
        for (service, functions) in scopes.iter() {
            for (request_type, scope) in functions {
                let limited = next.limits(service, request_type);
                scope.api.fetch_or(limited, Relaxed);
            }
        }
        let previous = self.in_force.swap(Arc::clone(&next));
        self.global.store(global, Relaxed);
        for (service, functions) in scopes.iter_mut() {
            functions.retain(|request_type, scope| {
                let limited = next.limits(service, request_type);
                scope.api.store(limited, Relaxed);
                // One that no plan holds any more is forgotten.
                Arc::strong_count(scope) > 1
            });
        }
        scopes.retain(|_, functions| !functions.is_empty());
        for applied in previous.all() {
            if !kept.contains(&applied.limit.id()) {
                self.limiter.forget(applied.limit.id());
            }
        }
    }

    /// Charges all limits that apply to a request of that function, or none of them.
    pub fn check<'v>(
        &self,
        service: &str,
        request_type: &str,
        now: Nanos,
        mut value_of: impl FnMut(&Key) -> Option<Value<'v>>,
    ) -> Verdict {
        let in_force = self.in_force.load();
        let applied = in_force.of_request(service, request_type);
        self.charge(applied, now, &mut value_of)
    }

    /// Charges the limits of one scope and key.
    pub fn check_value(
        &self,
        scope: &ScopeName,
        key: &Key,
        value: Option<&[u8]>,
        now: Nanos,
    ) -> Verdict {
        let in_force = self.in_force.load();
        let applied = in_force.of(scope, key).filter(|_| in_force.enabled);
        self.charge(applied, now, &mut |_key| value.map(Value::Borrowed))
    }

    /// What the limits of one scope and key say of a value; charges nothing.
    pub fn status(
        &self,
        scope: &ScopeName,
        key: &Key,
        value: &[u8],
        now: Nanos,
    ) -> Vec<(Spec, Status)> {
        let in_force = self.in_force.load();
        in_force
            .of(scope, key)
            .map(|applied| {
                let status = self.limiter.peek(&applied.limit, value, now);
                (applied.spec.clone(), status)
            })
            .collect()
    }

    /// Forgets the requests of a value under the limits of one scope and key.
    pub fn reset(&self, scope: &ScopeName, key: &Key, value: &[u8]) {
        let in_force = self.in_force.load();
        for applied in in_force.of(scope, key) {
            self.limiter.reset(&applied.limit, value);
        }
    }

    fn charge<'l, 'v>(
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
            return match value_of(&first.spec.key).filter(|value| !value.is_empty()) {
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
            let value = value_of(&applied.spec.key).filter(|value| !value.is_empty());
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
