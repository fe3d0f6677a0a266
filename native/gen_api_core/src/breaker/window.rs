//! The calls of the last seconds: how many ended, how many of them failed, and for whom.
//!
//! A success takes one addition and no lock. Failures take a lock: they are rare, or the circuit opens.

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::Mutex;
use std::collections::VecDeque;

use super::{Caller, Settings};
use crate::clock::Nanos;

/// Seconds that are looked at, and those when there were too few calls for that.
const SHORT_WINDOW: u32 = 10;
const LONG_WINDOW: u32 = 60;
/// So few calls in the short window that the long one is looked at.
const FEW_CALLS: u64 = 10;
/// More than the long window, so that no second shares its place with one that is still looked at.
/// All that a model does is in one second; to loom each place is a branch.
const PLACES: usize = if cfg!(loom) { 1 } else { 64 };

/// Where a second is kept.
fn place_of(second: u32) -> usize {
    (second as usize).checked_rem(PLACES).unwrap_or_default()
}
/// Failures remembered with their caller. Failures beyond them count without a cap.
const MAX_LOGGED: usize = 256;

/// Calls are kept by the second. The window is the current second and those before it.
#[derive(Debug)]
pub(super) struct Window {
    /// `second << 32 | successes`.
    successes: [AtomicU64; PLACES],
    /// The two callers seen last, as `caller << 32 | second + 1`; 0 is none. Written under the lock.
    callers: [AtomicU64; 2],
    failures: Mutex<Option<Box<Failures>>>,
}

#[derive(Debug)]
struct Failures {
    places: [Place; PLACES],
    /// `(caller, second)`, oldest first, at most a cap's worth of each caller.
    log: VecDeque<(u32, u32)>,
}

/// The failures of one second.
#[derive(Copy, Clone, Debug, Default)]
struct Place {
    second: u32,
    all: u32,
    /// Those that no cap applies to.
    uncapped: u32,
}

/// What a decision rests on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) calls: u64,
    pub(super) failures: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            successes: std::array::from_fn(|_| AtomicU64::new(0)),
            callers: std::array::from_fn(|_| AtomicU64::new(0)),
            failures: Mutex::new(None),
        }
    }

    #[inline]
    pub(super) fn add_success(&self, caller: Option<Caller>, now: Nanos) {
        let second = second(now);
        let Some(place) = self.successes.get(place_of(second)) else {
            return;
        };
        let mut packed = place.load(Relaxed);
        while (packed >> 32) as u32 != second {
            // A thread whose clock lags behind by a whole minute is not heard.
            if (packed >> 32) as u32 > second {
                return;
            }
            let first = u64::from(second) << 32;
            match place.compare_exchange(packed, first, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(current) => packed = current,
            }
        }
        place.fetch_add(1, Relaxed);
        self.note_caller(caller, second);
    }

    /// Adds a failure, and says what there is now.
    pub(super) fn add_failure(
        &self,
        lost: bool,
        caller: Option<Caller>,
        settings: &Settings,
        now: Nanos,
    ) -> Counts {
        let second = second(now);
        self.note_caller(caller, second);
        let mut failures = self.failures.lock();
        let failures = failures.get_or_insert_with(|| Box::new(Failures::new()));
        let logged = caller.filter(|_| !lost);
        failures.at(second, |place| {
            place.all += 1;
            place.uncapped += u32::from(logged.is_none());
        });
        if let Some(Caller(caller)) = logged {
            failures.log(caller, second, settings.threshold.max(1) - 1);
        }
        self.count(Some(failures), second)
    }

    pub(super) fn counts(&self, now: Nanos) -> Counts {
        self.count(self.failures.lock().as_deref(), second(now))
    }

    /// Whether no call has ended for as long as calls are looked at.
    pub(super) fn is_idle(&self, now: Nanos) -> bool {
        self.counts(now).calls == 0
    }

    pub(super) fn empty(&self) {
        let mut failures = self.failures.lock();
        *failures = None;
        for place in &self.successes {
            place.store(0, Relaxed);
        }
    }

    /// Memory held beyond its own, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.failures.lock().as_ref().map_or(0, |failures| {
            size_of::<Failures>() + failures.log.capacity() * 8
        })
    }

    fn count(&self, failures: Option<&Failures>, second: u32) -> Counts {
        let short = self.count_last(SHORT_WINDOW, failures, second);
        if short.calls < FEW_CALLS {
            self.count_last(LONG_WINDOW, failures, second)
        } else {
            short
        }
    }

    fn count_last(&self, length: u32, failures: Option<&Failures>, second: u32) -> Counts {
        let within = |at: u32| at <= second && second - at < length;
        let successes = self.successes.iter().map(|place| place.load(Relaxed));
        let successes: u64 = successes
            .filter(|packed| within((packed >> 32) as u32))
            .map(|packed| packed & u64::from(u32::MAX))
            .sum();
        let failures = failures.map_or(0, |failures| {
            let places = failures.places.iter().filter(|place| within(place.second));
            if !self.has_several_callers(second) {
                return places.map(|place| u64::from(place.all)).sum();
            }
            let uncapped: u64 = places.map(|place| u64::from(place.uncapped)).sum();
            let logged = failures.log.iter().filter(|(_, at)| within(*at)).count();
            uncapped + logged as u64
        });
        Counts {
            calls: successes + failures,
            failures,
        }
    }

    /// Whether more than one caller was seen lately. In the long window in any case, or whoever waits until the
    /// others have been quiet for ten seconds could open it for them.
    fn has_several_callers(&self, second: u32) -> bool {
        self.callers.iter().all(|slot| {
            let seen = slot.load(Relaxed) as u32;
            seen != 0 && second.saturating_sub(seen - 1) < LONG_WINDOW
        })
    }

    #[inline]
    fn note_caller(&self, caller: Option<Caller>, second: u32) {
        let Some(Caller(caller)) = caller else {
            return;
        };
        let seen = u64::from(caller) << 32 | u64::from(second.saturating_add(1));
        let [one, other] = self.callers.each_ref().map(|slot| slot.load(Relaxed));
        // Two callers in this second: a third would tell nothing new.
        let both = one as u32 == seen as u32 && other as u32 == seen as u32;
        if !both && one != seen && other != seen {
            self.remember(seen);
        }
    }

    /// A few times a second.
    fn remember(&self, seen: u64) {
        let _guard = self.failures.lock();
        let [one, other] = self.callers.each_ref();
        let [first, second] = [one.load(Relaxed), other.load(Relaxed)];
        let slot = if first >> 32 == seen >> 32 && first != 0 {
            one
        } else if second >> 32 == seen >> 32 && second != 0 {
            other
        } else if first as u32 <= second as u32 {
            one
        } else {
            other
        };
        slot.store(seen, Relaxed);
    }
}

impl Failures {
    fn new() -> Self {
        Self {
            places: [Place::default(); PLACES],
            log: VecDeque::new(),
        }
    }

    /// Changes the place of that second, emptied of an earlier one.
    fn at(&mut self, second: u32, change: impl FnOnce(&mut Place)) {
        if let Some(place) = self.places.get_mut(place_of(second)) {
            if place.second != second {
                *place = Place {
                    second,
                    ..Place::default()
                };
            }
            change(place);
        }
    }

    /// Of each caller the last `cap` are kept: so many count, whatever seconds are looked at.
    fn log(&mut self, caller: u32, second: u32, cap: u32) {
        if cap == 0 {
            return;
        }
        let own = |entry: &&(u32, u32)| entry.0 == caller;
        if self.log.iter().filter(own).count() >= cap as usize {
            let oldest = self.log.iter().position(|entry| entry.0 == caller);
            oldest.and_then(|at| self.log.remove(at));
        } else if self.log.len() >= MAX_LOGGED {
            if let Some((_, at)) = self.log.pop_front() {
                // Not where a later second has taken its place.
                let place = self.places.get_mut(place_of(at));
                if let Some(place) = place.filter(|place| place.second == at) {
                    place.uncapped += 1;
                }
            }
        }
        self.log.push_back((caller, second));
    }
}

fn second(Nanos(now): Nanos) -> u32 {
    u32::try_from(now / 1_000_000_000).unwrap_or(u32::MAX)
}

/// Whether so many are too many.
pub(super) fn too_many(counts: Counts, settings: &Settings) -> bool {
    counts.failures >= u64::from(settings.threshold.max(1))
        && counts.failures as f64 >= settings.failure_rate * counts.calls as f64
}
