//! How many retries a function may make, so that a failing service is not stormed.
//!
//! ```
//! use gen_api_core::clock::Nanos;
//! use gen_api_core::retry::{Allowance, Budget};
//!
//! let budget = Budget::default();
//! let allowance = Allowance { ratio: 0.2, free: 0 };
//! let now = Nanos::from_secs(7);
//! assert!(!budget.retry(now, allowance));
//! (0..5).for_each(|_| budget.request(now));
//! assert!(budget.retry(now, allowance));
//! assert!(!budget.retry(now, allowance));
//! ```

use crate::clock::Nanos;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::Mutex;

/// The length of the window, in seconds.
pub const WINDOW_SECS: u64 = 10;

/// A second that has begun counts whole. So the last ten seconds touch eleven of them: all eleven are asked for
/// retries, and only the last ten for requests. Both err on the side of fewer retries.
const SLOTS: usize = WINDOW_SECS as usize + 1;

/// What a function may spend in a window.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Allowance {
    /// Retries for each request.
    pub ratio: f64,
    /// Retries that are allowed however few requests there are.
    pub free: u32,
}

/// The requests and retries of one function in the last seconds.
///
/// In any ten seconds there are never more retries than the allowance's free ones or its ratio of the requests
/// in the ten seconds before the last of them, whichever is more.
#[derive(Debug, Default)]
pub struct Budget {
    /// By second modulo [`SLOTS`]: the second in the upper half, how many in the lower.
    requests: [AtomicU64; SLOTS],
    retries: Mutex<Retries>,
}

#[derive(Debug, Default)]
struct Retries {
    latest: u64,
    slots: [Slot; SLOTS],
}

#[derive(Copy, Clone, Debug, Default)]
struct Slot {
    second: u64,
    count: u64,
}

impl Budget {
    /// A request that may be tried again has begun.
    #[inline]
    pub fn request(&self, now: Nanos) {
        let second = second(now);
        let Some(slot) = self.requests.get(place(second)) else {
            return;
        };
        let mut seen = slot.load(Relaxed);
        loop {
            if seen >> 32 == second {
                slot.fetch_add(1, Relaxed);
                return;
            }
            // A thread that was asleep since the slot's second has nothing to add to a later one.
            if seen >> 32 > second {
                return;
            }
            match slot.compare_exchange_weak(seen, second << 32 | 1, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(current) => seen = current,
            }
        }
    }

    /// Whether a retry may be made, which then counts.
    #[must_use]
    pub fn retry(&self, now: Nanos, allowance: Allowance) -> bool {
        let mut retries = self.retries.lock();
        // Time that another thread has already seen has passed for this one too.
        let second = second(now).max(retries.latest);
        let spent = retries.since(second.saturating_sub(WINDOW_SECS));
        let free = spent < u64::from(allowance.free);
        if !free && (spent + 1) as f64 > self.requests(second) as f64 * allowance.ratio {
            return false;
        }
        retries.add(second);
        true
    }

    /// Whether nothing counts any more.
    pub fn is_idle(&self, now: Nanos) -> bool {
        let second = second(now);
        self.requests(second) == 0 && self.retries.lock().latest + WINDOW_SECS < second
    }

    fn requests(&self, second: u64) -> u64 {
        let since = second.saturating_sub(WINDOW_SECS - 1);
        let counts = self.requests.iter().map(|slot| slot.load(Relaxed));
        counts
            .filter(|slot| slot >> 32 >= since)
            .map(|slot| slot & u64::from(u32::MAX))
            .sum()
    }
}

impl Retries {
    fn since(&self, second: u64) -> u64 {
        let counting = self.slots.iter().filter(|slot| slot.second >= second);
        counting.map(|slot| slot.count).sum()
    }

    fn add(&mut self, second: u64) {
        self.latest = second;
        if let Some(slot) = self.slots.get_mut(place(second)) {
            if slot.second != second {
                *slot = Slot { second, count: 0 };
            }
            slot.count += 1;
        }
    }
}

/// From 1 on, so that an untouched slot is of no second that counts; 136 years fit.
fn second(now: Nanos) -> u64 {
    (now.0 / 1_000_000_000 + 1).min(u64::from(u32::MAX))
}

fn place(second: u64) -> usize {
    (second % SLOTS as u64) as usize
}
