use super::log::Log;
use super::rule::{Denial, Opening};
use super::stamp::{Stamp, RANGE};
use crate::clock::Nanos;

/// At most `max_requests` in every half-open interval as long as the window.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    max_requests: u32,
    window: Nanos,
}

impl SlidingWindow {
    /// 31 days.
    pub const LONGEST: Nanos = Nanos::from_secs(31 * 86_400);

    /// `None` if the window is zero or longer than [`SlidingWindow::LONGEST`]. A `max_requests` of 0 denies all.
    #[must_use]
    pub const fn new(max_requests: u32, window: Nanos) -> Option<Self> {
        if window.0 == 0 || window.0 > Self::LONGEST.0 {
            return None;
        }
        Some(Self {
            max_requests,
            window,
        })
    }

    /// Most requests in a window.
    #[must_use]
    pub const fn max_requests(self) -> u32 {
        self.max_requests
    }

    /// Length of the window.
    #[must_use]
    pub const fn window(self) -> Nanos {
        self.window
    }

    /// Whether one more request fits, after `ahead` others of the same moment.
    #[inline]
    pub(super) fn probe(
        self,
        requests: &Requests,
        now: Nanos,
        ahead: u32,
    ) -> Result<Opening, Denial> {
        let at = requests.time(now);
        let expired = requests.expired(at, self.window);
        let len = requests.log.len();
        let current = len - expired;
        // Of those admitted, the last `room` may still count when this request comes.
        let Some(room) = (self.max_requests as usize).checked_sub(ahead as usize + 1) else {
            return Err(Denial {
                retry_after: self.window,
                current: current as u32,
            });
        };
        if current <= room {
            return Ok(Opening { at, expired });
        }
        let age = requests.age(len - 1 - room, at);
        let rest = self.window.saturating_sub(Nanos(age));
        Err(Denial {
            // By the clock of the caller, which may be behind that of the window.
            retry_after: rest.saturating_add(at.saturating_sub(now)),
            current: current as u32,
        })
    }
}

const _: () = assert!(SlidingWindow::LONGEST.0 < RANGE);

/// The requests admitted within the window, oldest first.
///
/// Whatever is still in the log at the time of the last request was within the window then, so stamps are
/// never older than `last` by more than a window.
#[derive(Debug)]
pub(super) struct Requests {
    /// Time of the last one. The window's clock: it never runs backwards.
    last: u64,
    log: Log,
}

impl Requests {
    /// None yet, in a window whose clock starts at `floor`.
    pub(super) fn starting(floor: Nanos) -> Self {
        Self {
            last: floor.0,
            log: Log::default(),
        }
    }

    #[inline]
    fn time(&self, now: Nanos) -> Nanos {
        now.max(Nanos(self.last))
    }

    /// Age at `at`, which is not before the last request.
    #[inline]
    fn age(&self, index: usize, at: Nanos) -> u64 {
        (at.0 - self.last).saturating_add(self.log.get(index).age(self.last))
    }

    /// How many no longer count. One look when none does, logarithmic in the answer otherwise.
    #[inline]
    fn expired(&self, at: Nanos, window: Nanos) -> usize {
        let len = self.log.len();
        if at.0 - self.last >= window.0 {
            return len;
        }
        let is_expired = |index| self.age(index, at) >= window.0;
        if len == 0 || !is_expired(0) {
            return 0;
        }
        let mut step = 1;
        while step < len && is_expired(step) {
            step *= 2;
        }
        let (mut low, mut high) = (step / 2 + 1, step.min(len));
        while low < high {
            let middle = low + (high - low) / 2;
            if is_expired(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Records a request; returns how many entries became free.
    #[inline]
    pub(super) fn admit(&mut self, opening: Opening) -> usize {
        let released = self.log.drop_front(opening.expired);
        self.log.push(Stamp::new(opening.at.0));
        self.last = opening.at.0;
        released
    }

    /// Drops what no longer counts; returns how many entries became free.
    pub(super) fn trim(&mut self, now: Nanos, window: Nanos) -> usize {
        let at = self.time(now);
        let expired = self.expired(at, window);
        if expired > 0 {
            // What was dropped at one time might have counted at an earlier one.
            self.last = at.0;
        }
        self.log.drop_front(expired)
    }

    /// Drops everything; returns how many entries became free.
    pub(super) fn empty(&mut self, floor: Nanos) -> usize {
        self.last = floor.0;
        self.log.drop_front(self.log.len())
    }

    pub(super) fn clock(&self) -> Nanos {
        Nanos(self.last)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.log.len() == 0
    }

    pub(super) fn held(&self) -> usize {
        self.log.held()
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.log.bytes()
    }

    pub(super) fn current(&self, now: Nanos, window: Nanos) -> usize {
        self.log.len() - self.expired(self.time(now), window)
    }
}
