//! Those that wait for their turn.

use super::state::Waiting;
use super::{Admission, Ended, Limit, Limits, Requests, Turn};

impl<P: Copy + Eq, I> Requests<P, I> {
    /// What the answer of a request needs that waits. Whether it still does: the process where it would have may
    /// have ended before this was known.
    pub fn waits(&self, number: u64, info: I) -> bool {
        let mut state = self.state.lock();
        if let Some(waiting) = state
            .waiting
            .iter_mut()
            .rev()
            .find(|it| it.number == number)
        {
            waiting.info = Some(info);
            true
        } else {
            false
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
    /// wait. With `reads`, the client is known to have read enough. Who does not start waits until it is
    /// answered, see [`Requests::finish_waiting`].
    pub fn turn(&self, limits: &Limits, upto: u64, reads: bool) -> Turn {
        let mut state = self.state.lock();
        let (number, traits) = match state.waiting.front() {
            Some(front) if front.number <= upto && state.free(limits) => (
                front.number,
                front.request.as_ref().map(|(_id, traits)| *traits),
            ),
            _ => return Turn::Nobody,
        };
        if !reads && !self.reads(limits) {
            return Turn::Reading;
        }
        match traits {
            None => return Turn::Other(number),
            Some(traits) if traits.long && state.long >= limits.running => {
                return Turn::Refused(number);
            }
            Some(_) => {}
        }
        match state.waiting.pop_front() {
            Some(Waiting {
                request: Some((id, traits)),
                info,
                ..
            }) => Turn::Start(number, self.start(&mut state, number, id, traits, info)),
            _ => Turn::Nobody,
        }
    }

    /// Those whose time is up, and are to be answered; also when the next one's is.
    pub fn expire(&self, now: i64, upto: u64) -> (Vec<u64>, Option<i64>) {
        let state = self.state.lock();
        let late = |it: &&Waiting<I>| it.until <= now && it.number <= upto;
        let numbers = state.waiting.iter().filter(late).map(|it| it.number);
        let next = (state.waiting.iter())
            .filter(|it| !late(it))
            .map(|it| it.until);
        (numbers.collect(), next.min())
    }

    /// One that waits is about to be answered. Whether it may.
    pub fn finish_waiting(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        let place = state.waiting.iter().position(|it| it.number == number);
        match place.and_then(|place| state.waiting.remove(place)) {
            Some(waiting) => {
                self.leave_waiting(&waiting);
                true
            }
            None => false,
        }
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

    pub(super) fn leave_waiting(&self, waiting: &Waiting<I>) {
        if let Some((id, traits)) = &waiting.request {
            self.finish_share(id, *traits);
        }
    }
}
