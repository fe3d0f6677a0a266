//! NIFs of `PhoenixGenApi.RateLimiter`.
//!
//! Time is an argument, `System.monotonic_time(:nanosecond)`: tests give their own. Checks run
//! on a normal scheduler, some 100 ns a limit; what follows the number of limits or windows
//! runs on a dirty one.

use crate::atoms;
use crate::decode::{atom_enum, List, Map, Name, NAME_BYTES};
use crate::value::Arg;
use gen_api_core::clock::Nanos;
use gen_api_core::limiter::Caps;
use gen_api_core::limits::{
    Denial, Group, Key, Limits, OnMissing, ScopeName, Spec, Value as Counted, Verdict,
};
use gen_api_core::value::{Value, View};
use rustler::types::atom;
use rustler::types::tuple::make_tuple;
use rustler::{
    Atom, Binary, Decoder, Encoder, Env, NewBinary, NifResult, Resource, ResourceArc, Term,
};
use std::borrow::Cow;

/// A limiter with its limits.
pub struct LimiterResource(pub Limits);

#[rustler::resource_impl]
impl Resource for LimiterResource {}

// A panic leaves windows that are each consistent.
impl std::panic::RefUnwindSafe for LimiterResource {}

/// `:user_id`, `:device_id`, `:ip_address` or the name of an argument.
struct KeyTerm(Key);

impl<'a> Decoder<'a> for KeyTerm {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let keys = [
            (atoms::user_id(), Key::UserId),
            (atoms::device_id(), Key::DeviceId),
            (atoms::ip_address(), Key::IpAddress),
        ];
        if let Some((_, key)) = keys.into_iter().find(|(name, _)| *name == term) {
            return Ok(KeyTerm(key));
        }
        let name: Name = term.decode()?;
        Ok(KeyTerm(Key::Argument((*name).into())))
    }
}

fn key_term<'a>(env: Env<'a>, key: &Key) -> Term<'a> {
    match key {
        Key::UserId => atoms::user_id().encode(env),
        Key::DeviceId => atoms::device_id().encode(env),
        Key::IpAddress => atoms::ip_address().encode(env),
        Key::Argument(name) => (**name).encode(env),
    }
}

/// `:global` or `{service, request_type}`.
struct ScopeTerm(ScopeName);

impl<'a> Decoder<'a> for ScopeTerm {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if atoms::global() == term {
            return Ok(ScopeTerm(None));
        }
        let (service, request_type): (Name, Name) = term.decode()?;
        Ok(ScopeTerm(Some(((*service).into(), (*request_type).into()))))
    }
}

fn scope_term<'a>(env: Env<'a>, scope: &ScopeName) -> Term<'a> {
    match scope {
        None => atoms::global().encode(env),
        Some((service, request_type)) => (&**service, &**request_type).encode(env),
    }
}

atom_enum!(Missing(OnMissing) {
    skip => OnMissing::Skip,
    deny => OnMissing::Deny,
    shared => OnMissing::Shared,
});

atom_enum!(GroupTerm(Group) {
    all => Group::All,
    verified => Group::Verified,
    verified_device => Group::VerifiedDevice,
    claimed => Group::Claimed,
    claimed_device => Group::ClaimedDevice,
});

/// What a value counts by: non-empty strings; numbers and booleans by their text.
fn counted(value: Term<'_>) -> Option<Counted<'_>> {
    match Arg(value).view() {
        View::Str(bytes) if !bytes.is_empty() => Some(Cow::Borrowed(bytes)),
        View::Int(n) => Some(Cow::Owned(n.to_string().into_bytes())),
        View::Bool(b) => Some(Cow::Borrowed(if b { b"true" } else { b"false" })),
        View::Float(n) => Some(Cow::Owned(format!("{n:?}").into_bytes())),
        View::BigInt => Some(Cow::Owned(big_text(&value.to_binary()))),
        _ => None,
    }
}

/// The decimal text of an integer of up to 128 bits, from the external term format. That of a
/// longer one takes time quadratic in its length; its bytes tell it apart as well.
fn big_text(term: &[u8]) -> Vec<u8> {
    let [131, 110, _length, sign, digits @ ..] = term else {
        return term.to_vec();
    };
    let mut bytes = [0; 16];
    let Some(low) = bytes.get_mut(..digits.len()) else {
        return term.to_vec();
    };
    low.copy_from_slice(digits);
    let sign = if *sign == 0 { "" } else { "-" };
    format!("{sign}{}", u128::from_le_bytes(bytes)).into_bytes()
}

fn value_of<'a>(env: Env<'a>, Map(request): Map<'a>, key: &Key) -> Option<Term<'a>> {
    match key {
        Key::UserId => request.map_get(atoms::user_id()).ok(),
        Key::DeviceId => request.map_get(atoms::device_id()).ok(),
        Key::IpAddress => request.map_get(atoms::ip_address()).ok(),
        Key::Argument(name) => {
            let arguments = request.map_get(atoms::args()).ok()?;
            let name: Term = NewBinary::from_slice(env, name.as_bytes()).into();
            arguments.map_get(name).ok()
        }
    }
}

/// What is not UTF-8, or longer than names are, names nothing.
fn name(bytes: &[u8]) -> &str {
    let bytes = if bytes.len() > NAME_BYTES { &[] } else { bytes };
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// An instance without limits. Dirty CPU scheduler: makes all shards.
#[rustler::nif(schedule = "DirtyCpu")]
fn rate_limiter_new(
    shards: usize,
    max_keys: usize,
    max_entries: usize,
) -> ResourceArc<LimiterResource> {
    ResourceArc::new(LimiterResource(Limits::new(Caps {
        shards,
        max_keys,
        max_entries,
    })))
}

/// Whether a request passes for which there is no room. Normal scheduler.
#[rustler::nif]
fn rate_limiter_fail_open(limiter: &LimiterResource, fail_open: bool) -> Atom {
    limiter.0.set_fail_open(fail_open);
    atom::ok()
}

type SpecTerm = (ScopeTerm, KeyTerm, u32, u64, Missing);

/// Replaces all limits, `[{scope, key, max_requests, window_ms, on_missing}]`, in one step.
/// Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn rate_limiter_configure(
    limiter: &LimiterResource,
    enabled: bool,
    limits: List<SpecTerm>,
) -> Atom {
    let specs = limits
        .0
        .into_iter()
        .map(|(scope, key, max_requests, window_ms, on_missing)| Spec {
            scope: scope.0,
            key: key.0,
            max_requests,
            window_ms,
            on_missing: on_missing.0,
        })
        .collect();
    limiter.0.configure(enabled, specs);
    atom::ok()
}

/// How many bits of an IPv6 address count. Normal scheduler.
#[rustler::nif]
fn rate_limiter_ipv6_prefix(limiter: &LimiterResource, bits: u32) -> Atom {
    limiter.0.set_ipv6_prefix(bits.min(128) as u8);
    atom::ok()
}

/// Charges a `%Request{}` to a group of limits: `:ok`, `:more` (the same, and limits of the other
/// group apply), `:overflow`, or `{:limited, scope, key, value, max_requests, current_requests,
/// window_ms, retry_after_ms}`. Normal scheduler; values of a payload's size take some 100 us.
#[rustler::nif]
fn rate_limiter_check<'a>(
    env: Env<'a>,
    limiter: &LimiterResource,
    request: Map<'a>,
    service: Binary<'a>,
    request_type: Binary<'a>,
    group: GroupTerm,
    now: i64,
) -> Term<'a> {
    let (service, request_type) = (name(&service), name(&request_type));
    let check = limiter.0.check_group(
        service,
        request_type,
        group.0,
        Nanos::from_signed(now),
        |key| value_of(env, request, key).and_then(counted),
    );
    match check {
        (Verdict::Admitted, true) => atoms::more().encode(env),
        (verdict, _) => verdict_term(env, verdict, |key| value_of(env, request, key)),
    }
}

/// Charges one value to the limits of one scope and key; else as `rate_limiter_check`.
#[rustler::nif]
fn rate_limiter_check_value<'a>(
    env: Env<'a>,
    limiter: &LimiterResource,
    value: Term<'a>,
    scope: ScopeTerm,
    key: KeyTerm,
    now: i64,
) -> Term<'a> {
    let bytes = counted(value);
    let verdict =
        limiter
            .0
            .check_value(&scope.0, &key.0, bytes.as_deref(), Nanos::from_signed(now));
    verdict_term(env, verdict, |_key| Some(value))
}

fn verdict_term<'a>(
    env: Env<'a>,
    verdict: Verdict,
    value_of: impl Fn(&Key) -> Option<Term<'a>>,
) -> Term<'a> {
    match verdict {
        Verdict::Admitted => atom::ok().encode(env),
        Verdict::Overflow => atoms::overflow().encode(env),
        Verdict::Denied(denial) => denied(env, &denial, value_of),
    }
}

fn denied<'a>(
    env: Env<'a>,
    denial: &Denial,
    value_of: impl Fn(&Key) -> Option<Term<'a>>,
) -> Term<'a> {
    let none = || atom::nil().encode(env);
    let value = if denial.missing {
        none()
    } else {
        value_of(&denial.spec.key).unwrap_or_else(none)
    };
    make_tuple(
        env,
        &[
            atoms::limited().encode(env),
            scope_term(env, &denial.spec.scope),
            key_term(env, &denial.spec.key),
            value,
            denial.spec.max_requests.encode(env),
            denial.current.encode(env),
            denial.spec.window_ms.encode(env),
            denial.retry_after_ms.encode(env),
        ],
    )
}

/// `[{max_requests, current_requests, window_ms, remaining}]` of a value under the limits of
/// one scope and key. Normal scheduler.
#[rustler::nif]
fn rate_limiter_status(
    limiter: &LimiterResource,
    value: Term<'_>,
    scope: ScopeTerm,
    key: KeyTerm,
    now: i64,
) -> Vec<(u32, u32, u64, u32)> {
    let value = counted(value).unwrap_or_default();
    limiter
        .0
        .status(&scope.0, &key.0, &value, Nanos::from_signed(now))
        .into_iter()
        .map(|(spec, status)| {
            (
                spec.max_requests,
                status.current,
                spec.window_ms,
                status.remaining,
            )
        })
        .collect()
}

/// Forgets the requests of a value, or of those without one. Normal scheduler.
#[rustler::nif]
fn rate_limiter_reset(
    limiter: &LimiterResource,
    value: Term<'_>,
    scope: ScopeTerm,
    key: KeyTerm,
) -> Atom {
    let value = counted(value).unwrap_or_default();
    limiter.0.reset(&scope.0, &key.0, &value);
    atom::ok()
}

/// Forgets all requests; how many windows there were. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn rate_limiter_clear(limiter: &LimiterResource) -> usize {
    limiter.0.limiter().clear()
}

/// Reclaims at most `budget` windows: `{reclaimed, more?}`. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn rate_limiter_sweep(limiter: &LimiterResource, now: i64, budget: usize) -> (usize, bool) {
    let swept = limiter.0.limiter().sweep(Nanos::from_signed(now), budget);
    (swept.windows, swept.more)
}

/// `{windows, entries, overflowed, bytes}`. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn rate_limiter_stats(limiter: &LimiterResource) -> (usize, usize, u64, usize) {
    let stats = limiter.0.limiter().stats();
    (stats.windows, stats.entries, stats.overflowed, stats.bytes)
}
