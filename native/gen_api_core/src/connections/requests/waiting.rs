//! Those that wait for their turn.

use super::state::Waiting;
use super::{Admission, Ended, Limit, Limits, Requests, Turn};
use std::collections::VecDeque;

impl<P: Copy + Eq, I> Requests<P, I> {
    /// What the answer of a request needs that waits.
    pub fn waits(&self, number: u64, info: I) {
        let mut state = self.state.lock();
        if let Some(waiting) = state
            .waiting
            .iter_mut()
            .rev()
            .find(|it| it.number == number)
        {
            waiting.info = Some(info);
        } else if let Some(request) = state.active.get_mut(&number) {
            // Its turn has come already.
            request.info.get_or_insert(info);
        }
    }

    /// Something arrives that is no request and is dealt with in its turn: now, or when it has waited.
    /// What comes too often waits in any case.
    pub fn admit_other(&self, limits: &Limits, until: i64, wait: bool) -> Admission<P> {
        let mut state = self.state.lock();
        let number = self.lane.lock().number();
        if !wait && state.waiting.is_empty() && state.free(limits) && self.reads(limits) {
            Admission::Start(number, false)
        } else if !state.closed && state.has_room(limits) {
            let queue = state.queue;
            state.waiting.push_back(Waiting {
                number,
                until,
                request: None,
                info: None,
            });
            Admission::Wait(number, queue)
        } else {
            Admission::Refused(Limit::Pending)
        }
    }

    /// Requests wait in that process from now on. `watch` as in [`Requests::started`].
    pub fn set_queue(&self, queue: P, watch: impl FnOnce() -> bool) -> Ended<P, I> {
        self.state.lock().queue = Some(queue);
        if watch() {
            Ended::default()
        } else {
            self.ended(queue)
        }
    }

    /// Whose turn it is among those up to that number, which have arrived in the process where they
    /// wait. With `reads`, the client is known to have read enough.
    pub fn turn(&self, limits: &Limits, upto: u64, reads: bool) -> Turn {
        let mut state = self.state.lock();
        match state.waiting.front() {
            Some(front) if front.number <= upto && state.free(limits) => {}
            _ => return Turn::Nobody,
        }
        if !reads && !self.reads(limits) {
            return Turn::Reading;
        }
        let Some(first) = state.waiting.pop_front() else {
            return Turn::Nobody;
        };
        let number = first.number;
        match first.request {
            None => Turn::Other(number),
            Some((id, traits)) if traits.long && state.long >= limits.running => {
                self.finish_share(&id, traits);
                Turn::Refused(number)
            }
            Some((id, traits)) => {
                let after = self.start(&mut state, number, id, traits, first.info);
                Turn::Start(number, after)
            }
        }
    }

    /// Those whose time is up wait no more; also when the next one's is.
    pub fn expire(&self, now: i64, upto: u64) -> (Vec<u64>, Option<i64>) {
        let mut state = self.state.lock();
        let (late, others): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition(|waiting| waiting.until <= now && waiting.number <= upto);
        state.waiting = others;
        for waiting in &late {
            self.finish_waiting(waiting);
        }
        let next = state.waiting.iter().map(|waiting| waiting.until).min();
        (late.iter().map(|waiting| waiting.number).collect(), next)
    }

    /// Whether the process where requests wait may end: nothing waits, and it is forgotten.
    pub fn retire(&self, queue: P) -> bool {
        let mut state = self.state.lock();
        let retired = state.waiting.is_empty();
        if retired && state.queue == Some(queue) {
            state.queue = None;
        }
        retired
    }

    pub(super) fn finish_waiting(&self, waiting: &Waiting<I>) {
        if let Some((id, traits)) = &waiting.request {
            self.finish_share(id, *traits);
        }
    }
}
