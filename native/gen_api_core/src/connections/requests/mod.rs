//! The requests of one event of a channel: executing, running on after their acknowledgement, or queued.
//!
//! Each request is a process that claims its answer here before it sends it, and whose end the VM
//! reports. A request has exactly one outcome, that of the first claim: by its own process, a cancel, a
//! timeout, or the death of its process. It holds one of `concurrency` slots from its start to its
//! acknowledgement, or to the end of its process.
//!
//! Queued requests are held by a process of their own; their order, the data for their answers and their
//! timeouts are kept here. No request overtakes a queued one.

mod ending;
mod state;
#[cfg(test)]
mod tests;
mod types;
mod waiting;

pub use types::{
    Acknowledgement, Admission, Cancelled, Ended, Kind, Limit, Limits, Lost, Traits, Turn,
};

use super::{Beginning, Connection, Share};
use crate::sync::{AHashMap, Mutex};
use state::{Lane, Phase, Request, State, Waiting};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The requests of one event of a channel. `P` names a process, `I` is what an answer needs.
#[derive(Debug)]
pub struct Requests<P, I> {
    share: Share,
    /// Messages that the channel has not handled yet.
    channel: Arc<Connection>,
    owners: [P; 2],
    lane: Arc<Mutex<Lane<P>>>,
    state: Mutex<State<P, I>>,
}

impl<P: Copy + Eq, I> Requests<P, I> {
    /// No requests, of a channel whose unhandled messages `waits` counts. All end with the channel, or with
    /// the process of its connection.
    #[must_use]
    pub fn new(share: Share, waits: Arc<Connection>, channel: P, transport: P) -> Self {
        let lane = Lane {
            last: 0,
            active: BTreeMap::new(),
        };
        Self::with(
            share,
            waits,
            [channel, transport],
            Arc::new(Mutex::new(lane)),
        )
    }

    /// No requests, of another event of the same channel.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self::with(
            self.share.sibling(),
            Arc::clone(&self.channel),
            self.owners,
            Arc::clone(&self.lane),
        )
    }

    fn with(
        share: Share,
        channel: Arc<Connection>,
        owners: [P; 2],
        lane: Arc<Mutex<Lane<P>>>,
    ) -> Self {
        Self {
            share,
            channel,
            owners,
            lane,
            state: Mutex::new(State {
                active: AHashMap::default(),
                waiting: VecDeque::new(),
                queue: None,
                slots: 0,
                long: 0,
                closed: false,
            }),
        }
    }

    /// A request arrives. One that waits does so until `until`, and [`Requests::waits`] says what its
    /// answer needs.
    pub fn admit(&self, id: &[u8], traits: Traits, limits: &Limits, until: i64) -> Admission<P> {
        let mut state = self.state.lock();
        if state.closed {
            return Admission::Refused(Limit::Connection);
        }
        match self.share.begin(limits.connection, id, traits.holds_id) {
            Beginning::Begun => {}
            Beginning::Full => return Admission::Refused(Limit::Connection),
            Beginning::Duplicate => return Admission::Duplicate,
        }
        let number = self.lane.lock().number();
        if state.waiting.is_empty() && state.free(limits) && self.reads(limits) {
            if traits.long && state.long >= limits.running {
                self.finish_share(id, traits);
                return Admission::Refused(Limit::Running);
            }
            let after = self.start(&mut state, number, id.into(), traits, None);
            Admission::Start(number, after)
        } else if state.has_room(limits) {
            let queue = state.queue;
            state.waiting.push_back(Waiting {
                number,
                until,
                request: Some((id.into(), traits)),
                info: None,
            });
            Admission::Wait(number, queue)
        } else {
            self.finish_share(id, traits);
            Admission::Refused(Limit::Pending)
        }
    }

    /// A process was started for a request that may start. `watch` has [`Requests::ended`] called
    /// when it ends, and says whether it still lives. Returns whether it is to go on.
    pub fn started(
        &self,
        number: u64,
        process: P,
        info: I,
        watch: impl FnOnce() -> bool,
    ) -> (bool, Ended<P, I>) {
        {
            let mut state = self.state.lock();
            let Some(request) = state.active.get_mut(&number) else {
                return (true, Ended::default());
            };
            request.process = Some(process);
            if !request.phase.is_over() {
                request.info = Some(info);
            }
        }
        // Not under the lock: the VM may report its end from here.
        let alive = watch();
        let ended = if alive {
            Ended::default()
        } else {
            self.ended(process)
        };
        let state = self.state.lock();
        let claimed = (state.active.get(&number)).is_some_and(|it| it.phase == Phase::Claimed);
        (!claimed, ended)
    }

    /// The process of a request that starts after another one. Whether it has to wait until it is
    /// told to go on, by an [`Ended`].
    pub fn follow(&self, number: u64, process: P) -> bool {
        self.lane.lock().follow(number, process)
    }

    /// The process of a request is about to run its function.
    pub fn called(&self, number: u64) {
        if let Some(request) = self.state.lock().active.get_mut(&number) {
            request.called = true;
        }
    }

    /// The process of a request is about to answer it, and nothing more follows. Whether it may.
    pub fn finish(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        let executes = state.executes(number);
        if executes {
            self.end(&mut state, number, Phase::Over);
        }
        executes
    }

    /// Claims the answer of a request that executes, whose process is to be killed: what it needs.
    pub fn claim(&self, number: u64) -> Option<I> {
        let mut state = self.state.lock();
        if state.executes(number) {
            self.end(&mut state, number, Phase::Claimed)
        } else {
            None
        }
    }

    /// The process of a request is about to acknowledge it.
    pub fn acknowledge(&self, number: u64, kind: Kind, running: u32) -> Acknowledgement {
        let mut state = self.state.lock();
        let long = state.long;
        match state.active.get_mut(&number) {
            Some(request) if request.phase == Phase::Executing => {
                // Not reserved is what a hook, or a new config, has turned into a long request.
                if !request.long && long >= running {
                    return Acknowledgement::Refused;
                }
                request.phase = Phase::Acknowledging(kind);
                if !request.long {
                    request.long = true;
                    state.long += 1;
                }
                Acknowledgement::Granted
            }
            _ => Acknowledgement::Ended,
        }
    }

    /// The acknowledgement is sent, and the slot free: whether the request goes on, and whom to wake.
    pub fn acknowledged(&self, number: u64) -> (bool, Option<P>) {
        let mut state = self.state.lock();
        let Some(request) = state.active.get_mut(&number) else {
            return (false, None);
        };
        let Phase::Acknowledging(kind) = request.phase else {
            return (false, None);
        };
        request.phase = Phase::Running(kind);
        let cancelled = request.cancelled;
        if std::mem::take(&mut request.slot) {
            state.slots = state.slots.saturating_sub(1);
        }
        if cancelled {
            self.cancel_running(&mut state, number, kind);
        }
        (!cancelled, state.wake())
    }

    /// The process of a cancelled stream is about to send its last frame. Whether it may.
    pub fn finish_cancelled(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        match state.active.get_mut(&number) {
            Some(request) if request.phase == Phase::Cancelled => {
                request.phase = Phase::Over;
                request.info = None;
                true
            }
            _ => false,
        }
    }

    /// The process of an acknowledged request is about to send its last result. Whether it may.
    pub fn finish_running(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        match state.active.get(&number) {
            Some(request) if matches!(request.phase, Phase::Running(_)) => {
                self.end(&mut state, number, Phase::Over);
                true
            }
            _ => false,
        }
    }

    /// How many execute, go on after their acknowledgement, and wait.
    #[must_use]
    pub fn count(&self) -> (usize, usize, usize) {
        let state = self.state.lock();
        let running = (state.active.values())
            .filter(|request| matches!(request.phase, Phase::Running(_)))
            .count();
        (state.slots as usize, running, state.waiting.len())
    }

    fn reads(&self, limits: &Limits) -> bool {
        self.share.connection().waiting() <= limits.bytes && self.channel.waiting() <= limits.bytes
    }

    fn start(
        &self,
        state: &mut State<P, I>,
        number: u64,
        id: Box<[u8]>,
        traits: Traits,
        info: Option<I>,
    ) -> bool {
        state.slots += 1;
        state.long += u32::from(traits.long);
        let request = Request {
            id,
            traits,
            long: traits.long,
            slot: true,
            phase: Phase::Executing,
            called: false,
            cancelled: false,
            process: None,
            info,
        };
        state.active.insert(number, request);
        traits.in_order && self.lane.lock().enter(number)
    }
}
