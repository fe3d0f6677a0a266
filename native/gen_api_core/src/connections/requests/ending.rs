//! How requests end: by a cancel, with their process, or with their channel.

use super::state::{Phase, State, Waiting};
use super::{Cancelled, Ended, Kind, Lost, Requests, Traits};
use std::collections::VecDeque;

impl<P: Copy + Eq, I> Requests<P, I> {
    /// Ends the requests of that id, in whatever state they are; with `streams`, only the streams
    /// that run.
    pub fn cancel(&self, id: &[u8], streams: bool) -> Vec<Cancelled<P, I>> {
        let mut state = self.state.lock();
        let mut numbers: Vec<u64> = (state.active.iter())
            .filter(|(_, request)| *request.id == *id)
            .map(|(number, _)| *number)
            .collect();
        numbers.sort_unstable();
        let mut cancelled = Vec::new();
        for number in numbers {
            let Some(request) = state.active.get_mut(&number) else {
                continue;
            };
            let process = request.process;
            match request.phase {
                // One that is being started, and has not waited, came after the cancel.
                Phase::Executing if !streams && request.info.is_some() => {
                    if let Some(info) = self.end(&mut state, number, Phase::Claimed) {
                        cancelled.push(Cancelled::Executing(process, info));
                    }
                }
                Phase::Acknowledging(kind)
                    if (!streams || kind == Kind::Stream) && !request.cancelled =>
                {
                    request.cancelled = true;
                    cancelled.push(Cancelled::Running(None));
                }
                Phase::Running(kind) if !streams || kind == Kind::Stream => {
                    self.cancel_running(&mut state, number, kind);
                    cancelled.push(Cancelled::Running(process));
                }
                _ => {}
            }
        }
        if !streams {
            let queue = state.queue;
            let (those, others) = std::mem::take(&mut state.waiting)
                .into_iter()
                .partition(|waiting| waiting.is(id));
            state.waiting = others;
            let those: VecDeque<Waiting<I>> = those;
            for waiting in those {
                self.leave_waiting(&waiting);
                if let Some(info) = waiting.info {
                    cancelled.push(Cancelled::Waiting(waiting.number, queue, info));
                }
            }
        }
        cancelled
    }

    /// The processes of the requests of an id that go on, or will go on, after their acknowledgement.
    pub fn long(&self, id: &[u8]) -> Vec<P> {
        let state = self.state.lock();
        (state.active.values())
            .filter(|request| *request.id == *id && request.traits.long && !request.phase.is_over())
            .filter_map(|request| request.process)
            .collect()
    }

    /// A process has ended.
    pub fn ended(&self, process: P) -> Ended<P, I> {
        let mut state = self.state.lock();
        let mut ended = Ended::default();
        if self.owners.contains(&process) {
            ended.kill = self.close(&mut state);
            return ended;
        }
        if state.queue == Some(process) {
            state.queue = None;
            // It was about to start one at most. If that one has a process already, nobody can name it any
            // more: it finds its answer claimed, and ends by itself.
            let starting = (state.active.iter())
                .find(|(_, request)| request.process.is_none() && request.info.is_some())
                .map(|(number, _)| *number);
            if let Some(number) = starting {
                let info = self.end(&mut state, number, Phase::Claimed);
                ended.lost.extend(info.map(|info| Lost {
                    info,
                    kind: None,
                    called: false,
                }));
                ended.proceed = self.leave(&mut state, number);
            }
            for waiting in std::mem::take(&mut state.waiting) {
                self.leave_waiting(&waiting);
                ended.lost.extend(waiting.info.map(|info| Lost {
                    info,
                    kind: None,
                    called: false,
                }));
            }
        }
        let number = (state.active.iter())
            .find(|(_, request)| request.process == Some(process))
            .map(|(number, _)| *number);
        if let Some(number) = number {
            let kind = match state.active.get(&number).map(|request| request.phase) {
                Some(Phase::Acknowledging(kind) | Phase::Running(kind)) => Some(kind),
                Some(Phase::Cancelled) => Some(Kind::Stream),
                _ => None,
            };
            let called = (state.active.get(&number)).is_some_and(|request| request.called);
            let info = self.end(&mut state, number, Phase::Claimed).or_else(|| {
                // The last frame of a cancelled stream.
                state.active.get_mut(&number)?.info.take()
            });
            (ended.lost).extend(info.map(|info| Lost { info, kind, called }));
            ended.proceed = self.leave(&mut state, number);
            ended.wake = state.wake();
        }
        ended
    }

    pub(super) fn finish_share(&self, id: &[u8], traits: Traits) {
        self.share.finish(traits.holds_id.then_some(id));
    }

    /// The answer is claimed. What it needs, unless it was claimed before.
    pub(super) fn end(&self, state: &mut State<P, I>, number: u64, phase: Phase) -> Option<I> {
        let request = state.active.get_mut(&number)?;
        if request.phase.is_over() {
            return None;
        }
        request.phase = phase;
        self.finish_share(&request.id, request.traits);
        let info = request.info.take();
        let long = std::mem::take(&mut request.long);
        state.long = state.long.saturating_sub(u32::from(long));
        info
    }

    /// Its process has ended: whose may go on.
    pub(super) fn leave(&self, state: &mut State<P, I>, number: u64) -> Option<P> {
        let request = state.active.remove(&number)?;
        state.slots = state.slots.saturating_sub(u32::from(request.slot));
        if request.traits.in_order {
            self.lane.lock().leave(number)
        } else {
            None
        }
    }

    pub(super) fn close(&self, state: &mut State<P, I>) -> Vec<P> {
        state.closed = true;
        state.waiting.clear();
        state.long = 0;
        self.share.release();
        let mut kill = Vec::new();
        for request in state.active.values_mut() {
            if !request.phase.is_over() {
                request.phase = Phase::Claimed;
                request.long = false;
                request.info = None;
                kill.extend(request.process);
            }
        }
        kill
    }

    /// It counts no more. Of a stream one frame is due.
    pub(super) fn cancel_running(&self, state: &mut State<P, I>, number: u64, kind: Kind) {
        let info = self.end(state, number, Phase::Cancelled);
        if let (Kind::Stream, Some(request)) = (kind, state.active.get_mut(&number)) {
            request.info = info;
        }
    }
}
