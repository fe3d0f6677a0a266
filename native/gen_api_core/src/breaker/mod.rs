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
//! for opened in [Transition::None, Transition::Opened { consecutive: 2 }] {
//!     let Check::Allow(permit) = breaker.check(now) else { unreachable!() };
//!     assert_eq!(breaker.record(permit, Outcome::Failure, now), opened);
//! }
//! assert!(matches!(breaker.check(now), Check::Deny { .. }));
//!
//! let later = Nanos::from_secs(31);
//! let Check::Probe(probe) = breaker.check(later) else { unreachable!() };
//! assert!(matches!(breaker.check(later), Check::Deny { .. }), "one probe at a time");
//! assert_eq!(breaker.record(probe, Outcome::Success, later), Transition::Closed);
//! ```
//!
//! The circuit breaker of Nygard, "Release It!", 2007. Everything that a decision depends on is one atomic
//! word, so every check and every record takes effect at one moment and nobody waits for anybody.
//!
//! | file | concept |
//! |---|---|
//! | `machine` | a breaker: check, record, give back |
//! | `word` | its state in 64 bits |
//! | `window` | the outcomes of the last calls, for the failure rate |

mod machine;
mod window;
mod word;

pub use machine::Breaker;

use crate::clock::Nanos;

/// When a breaker opens, and for how long.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// It opens after so many failures in a row. Zero is taken for one.
    pub threshold: u32,
    /// It also opens when this rate of the last calls failed. Off by default.
    pub failure_rate: Option<FailureRate>,
    /// How long it stays open before a probe is let through.
    pub cooldown: Nanos,
    /// How long a probe may take before it counts as vanished and another one is let through.
    /// [`Nanos::MAX`] where whoever holds the probe is sure to record it or to give it back.
    pub probe_life: Nanos,
}

impl Default for Settings {
    /// Five failures in a row; 30 seconds open, and as long for a probe.
    fn default() -> Self {
        Self {
            threshold: 5,
            failure_rate: None,
            cooldown: Nanos::from_secs(30),
            probe_life: Nanos::from_secs(30),
        }
    }
}

/// `failures` of the last `window` calls.
///
/// Judged at each failure, once `window` calls have ended since the breaker closed. So a success never opens
/// a breaker, and the first calls after a start do not stand for a rate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FailureRate {
    /// So many failures are too many. Zero is taken for one.
    pub failures: u32,
    /// Among so many calls. Between 1 and [`FailureRate::MAX_WINDOW`]; others are taken for the nearest.
    pub window: u32,
}

impl FailureRate {
    /// The longest window: 8 KiB per breaker.
    pub const MAX_WINDOW: u32 = 65_536;
}

/// What a call that was allowed is recorded with.
///
/// It belongs to the period in which it was given: what ends after the breaker has opened, or has opened and
/// closed again, counts no more.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[must_use = "the outcome has to be recorded, or the permit given back"]
pub struct Permit(pub(crate) u16);

impl Permit {
    /// Of the period in which a breaker begins: for a call that began before there was a breaker.
    pub const FIRST: Self = Self(0);
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
}

/// What a record changed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// Nothing that anybody has to be told.
    None,
    /// It opened, or a probe failed and it opened again.
    Opened {
        /// Failures in a row so far, at least one.
        consecutive: u32,
    },
    /// A probe succeeded.
    Closed,
}

/// What a breaker is doing, for people.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls are allowed.
    Closed {
        /// Failures in a row so far.
        consecutive: u32,
    },
    /// Calls are denied.
    Open {
        /// How long until a probe is let through; zero when the next call is it.
        retry_in: Nanos,
    },
    /// A probe is under way.
    HalfOpen,
}
