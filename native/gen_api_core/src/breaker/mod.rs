//! Circuit breakers: who keeps failing is left alone for a while.
//!
//! ```
//! use gen_api_core::breaker::{Breaker, Check, Outcome, Settings, Transition};
//! use gen_api_core::clock::Nanos;
//!
//! let breaker = Breaker::new(Settings {
//!     threshold: 2,
//!     cooldown: Nanos::from_secs(30),
//!     ..Settings::default()
//! });
//! let now = Nanos::ZERO;
//! for opened in [Transition::None, Transition::Opened { failures: 2 }] {
//!     let Check::Allow(permit) = breaker.check(now) else { unreachable!() };
//!     assert_eq!(breaker.record(permit, Outcome::Failure, None, now), opened);
//! }
//! assert!(matches!(breaker.check(now), Check::Deny { .. }));
//!
//! let later = Nanos::from_secs(31);
//! let Check::Probe(probe) = breaker.check(later) else { unreachable!() };
//! assert!(matches!(breaker.check(later), Check::Deny { .. }), "one probe at a time");
//! assert_eq!(breaker.record(probe, Outcome::Success, None, later), Transition::Closed);
//! ```
//!
//! The circuit breaker of Nygard, "Release It!", 2007. Whether calls are let through is one atomic word, so every
//! check and every change takes effect at one moment.
//!
//! | file | concept |
//! |---|---|
//! | `machine` | a breaker: check, record, give back |
//! | `packed_state` | its state in 64 bits |
//! | `window` | the outcomes of the last seconds, and whose they were |

mod machine;
mod packed_state;
mod window;

pub use machine::Breaker;

use packed_state::PackedTime;

use crate::clock::Nanos;

/// When a breaker opens, and for how long.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Settings {
    /// It opens when at least so many calls failed. Zero is taken for one.
    pub threshold: u32,
    /// And when they are at least this share of all calls, of the last 10 seconds; of the last 60 while there were
    /// fewer than 10 calls.
    pub failure_rate: f64,
    /// How long it stays open before a probe is let through, and how long a probe may take before the next call
    /// is one.
    pub cooldown: Nanos,
}

impl Default for Settings {
    /// Five failures and half of the calls; 30 seconds open.
    fn default() -> Self {
        Self {
            threshold: 5,
            failure_rate: 0.5,
            cooldown: Nanos::from_secs(30),
        }
    }
}

/// Whose call it was: a keyed hash of a user or an address.
///
/// While there is another caller in the window, one counts for at most `threshold - 1` failures, and what is
/// beyond counts neither as failures nor as calls.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller(pub u32);

/// What a call that was allowed is recorded with.
///
/// It belongs to the period in which it was given: what ends after the breaker has opened, or has opened and
/// closed again, counts no more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[must_use = "the outcome has to be recorded, or the permit given back"]
pub struct Permit {
    generation: u16,
    /// When a probe counts no more as the probe.
    expires: PackedTime,
}

impl Permit {
    /// Of the period in which a breaker begins: for a call that began before there was a breaker.
    pub const FIRST: Self = Self::new(0);

    const fn new(generation: u16) -> Self {
        Self {
            generation,
            expires: PackedTime::NEVER,
        }
    }
}

/// The answer to a call that wants to be made.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Closed: go ahead.
    Allow(Permit),
    /// The cool-down is over: go ahead, you decide for all.
    Probe(Permit),
    /// Open, or a probe is under way.
    Deny {
        /// How long until a probe may be let through; not known while one is under way.
        retry_in: Option<Nanos>,
    },
}

/// How a call ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In a way that speaks for the callee.
    Success,
    /// In a way that counts against it.
    Failure,
    /// With the connection: counts against it whoever called.
    Lost,
}

/// What a record changed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Nothing that anybody has to be told.
    None,
    /// It opened, or a probe failed and it opened again.
    Opened {
        /// The failures that opened it; one more for each probe that failed.
        failures: u32,
    },
    /// A probe succeeded.
    Closed,
}

/// What a breaker is doing, for people.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls are allowed.
    Closed,
    /// Calls are denied.
    Open {
        /// How long until a probe is let through; zero when the next call is it.
        retry_in: Nanos,
    },
    /// A probe is under way.
    HalfOpen,
}
