//! Which limits a request is charged to.
//!
//! A [`Limits`] holds a limiter and the active limits. They are one immutable value behind
//! one pointer, so a change takes effect at once and a check never waits for one. A plan
//! holds a [`Scope`] of its function, which says whether any limit applies: where none does, a
//! request pays one load and nothing else.

mod active_limits;
mod charge;
mod scope;
mod spec;

pub use active_limits::ActiveLimit;
pub use scope::Scope;
pub use spec::{Group, Key, OnMissing, ScopeName, Spec};

use crate::address;
use crate::bounded::Bounded;
use crate::clock::Nanos;
use crate::limiter::{Caps, Limiter, Rule, SlidingWindow, Status};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use crate::sync::{ArcSwap, Mutex};
use active_limits::ActiveLimits;
use ahash::AHashSet;
use scope::Scopes;
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

/// A limiter and the active limits.
#[derive(Debug)]
pub struct Limits {
    limiter: Limiter,
    active_limits: ArcSwap<ActiveLimits>,
    fail_open: AtomicBool,
    /// Bits of an IPv6 address that count.
    ipv6_prefix: AtomicU64,
    bounded: Bounded,
    // Also the lock of those who change limits: a scope that is made while limits change is
    // either there to be told or made from the new ones.
    scopes: Mutex<Scopes>,
}

impl Limits {
    /// No limits yet.
    pub fn new(caps: Caps) -> Self {
        Limits {
            limiter: Limiter::new(caps),
            active_limits: ArcSwap::default(),
            fail_open: AtomicBool::default(),
            ipv6_prefix: AtomicU64::new(address::IPV6_PREFIX.into()),
            bounded: Bounded::default(),
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
        let active_limits = self.active_limits.load();
        let limited = active_limits.limits(service, request_type);
        scopes.of(service, request_type, || Scope(AtomicBool::new(limited)))
    }

    /// How many scopes are kept.
    pub fn scopes(&self) -> usize {
        self.scopes.lock().len()
    }

    /// Whether a request passes that there is no room to count. Then it is counted where there
    /// is room; otherwise (the default) nowhere.
    pub fn set_fail_open(&self, fail_open: bool) {
        self.fail_open.store(fail_open, Relaxed);
    }

    /// How many bits of an IPv6 address count: addresses with the same first ones are one client. 64 by default,
    /// at most 128.
    pub fn set_ipv6_prefix(&self, bits: u8) {
        self.ipv6_prefix.store(bits.min(128).into(), Relaxed);
    }

    /// The bytes that a value is counted under; none for none.
    fn key<'v>(&self, key: &Key, value: Value<'v>) -> Option<Value<'v>> {
        if value.is_empty() {
            return None;
        }
        if *key == Key::IpAddress {
            let prefix = self.ipv6_prefix.load(Relaxed) as u8;
            if let Some(address) = address::key(&value, prefix) {
                return Some(Value::Owned(address));
            }
        }
        Some(self.bounded.key(value))
    }

    /// Replaces all limits in one step. A limit with the scope, key and window of an earlier
    /// one goes on with its counts; the others are forgotten. Specs that no window can hold
    /// (a window of no length) are left out.
    pub fn configure(&self, enabled: bool, specs: Vec<Spec>) {
        let mut scopes = self.scopes.lock();
        let mut next = ActiveLimits {
            enabled,
            ..ActiveLimits::default()
        };
        for spec in specs {
            let window = Nanos(spec.window_ms.saturating_mul(NANOS_PER_MS));
            let Some(rule) = SlidingWindow::new(spec.max_requests, window) else {
                continue;
            };
            let limit = self.limiter.limit(&spec.name(), Rule::SlidingWindow(rule));
            let scope = spec.scope.clone();
            let active = ActiveLimit { spec, limit };
            match scope {
                None => next.global.push(active),
                Some((service, request_type)) => {
                    let functions = next.api.entry(service).or_default();
                    functions.entry(request_type).or_default().push(active);
                }
            }
        }
        let kept: AHashSet<_> = next.all().map(|active| active.limit.id()).collect();
        // Plans are told before limits are active, and that there are none only after: a
        // check that finds nothing to charge is harmless, a request that is not checked is not.
        let next = Arc::new(next);
        for (service, request_type, scope) in scopes.all() {
            scope
                .0
                .fetch_or(next.limits(service, request_type), Relaxed);
        }
        let previous = self.active_limits.swap(Arc::clone(&next));
        for (service, request_type, scope) in scopes.all() {
            scope.0.store(next.limits(service, request_type), Relaxed);
        }
        scopes.drop_unused();
        for active in previous.all() {
            if !kept.contains(&active.limit.id()) {
                self.limiter.forget(active.limit.id());
            }
        }
    }

    /// Charges all limits that apply to a request of that function, or none of them.
    pub fn check<'v>(
        &self,
        service: &str,
        request_type: &str,
        now: Nanos,
        value_of: impl FnMut(&Key) -> Option<Value<'v>>,
    ) -> Verdict {
        self.check_group(service, request_type, Group::All, now, value_of)
            .0
    }

    /// The same for the limits of a group; and whether there are others that apply to the request.
    pub fn check_group<'v>(
        &self,
        service: &str,
        request_type: &str,
        group: Group,
        now: Nanos,
        mut value_of: impl FnMut(&Key) -> Option<Value<'v>>,
    ) -> (Verdict, bool) {
        let active_limits = self.active_limits.load();
        let mut others = false;
        let active = active_limits
            .of_request(service, request_type)
            .filter(|active| {
                let charged = group.has(&active.spec.key);
                others |= !charged;
                charged
            });
        let verdict = self.charge(active, now, &mut value_of);
        (verdict, others)
    }

    /// Charges the limits of one scope and key.
    pub fn check_value(
        &self,
        scope: &ScopeName,
        key: &Key,
        value: Option<&[u8]>,
        now: Nanos,
    ) -> Verdict {
        let active_limits = self.active_limits.load();
        let active = active_limits
            .of(scope, key)
            .filter(|_| active_limits.enabled);
        self.charge(active, now, &mut |_key| value.map(Value::Borrowed))
    }

    /// What the limits of one scope and key say of a value; charges nothing.
    pub fn status(
        &self,
        scope: &ScopeName,
        key: &Key,
        value: &[u8],
        now: Nanos,
    ) -> Vec<(Spec, Status)> {
        let active_limits = self.active_limits.load();
        let value = self.key(key, Value::Borrowed(value)).unwrap_or_default();
        active_limits
            .of(scope, key)
            .map(|active| {
                let status = self.limiter.peek(&active.limit, &value, now);
                (active.spec.clone(), status)
            })
            .collect()
    }

    /// Forgets the requests of a value under the limits of one scope and key.
    pub fn reset(&self, scope: &ScopeName, key: &Key, value: &[u8]) {
        let active_limits = self.active_limits.load();
        let value = self.key(key, Value::Borrowed(value)).unwrap_or_default();
        for active in active_limits.of(scope, key) {
            self.limiter.reset(&active.limit, &value);
        }
    }
}
