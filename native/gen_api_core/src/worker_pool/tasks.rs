use crate::sync::atomic::{
    AtomicBool, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::SeqCst,
};
use std::sync::Arc;

use crate::sync::Mutex;

use super::queue::{Place, Queue};
use super::running::Running;
use super::shares::{Caller, Name, Shares};
use super::task::{Cause, Progress, Stage, Task};
use super::{Admission, End, Entry, Finish, Kind, Reached};
use crate::breaker::{self, Breaker, Check, Outcome, Settings, Transition};
use crate::clock::Nanos;

/// The tasks of a pool, each of which goes through its steps. `P` names a process.
#[derive(Debug)]
pub struct Tasks<P> {
    queue: Queue<P>,
    running: Running<P>,
    breaker: Breaker,
    shares: Shares,
    stopped: AtomicBool,
    ended: AtomicU64,
    failed: AtomicU64,
}

/// What these tasks do and have done.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct TaskStatus {
    /// Slots.
    pub size: u32,
    /// Slots that are taken.
    pub running: u32,
    /// Tasks in the queue.
    pub waiting: u32,
    /// Whether the circuit is open or half open.
    pub circuit_open: bool,
    /// Whether [`Kind::Uncounted`] tasks are refused because of it: until the cool-down is over.
    pub refusing: bool,
    /// Tasks that have begun and ended, one way or the other.
    pub ended: u64,
    /// Those of them that have failed.
    pub failed: u64,
}

impl<P: Copy> Tasks<P> {
    /// For `size` slots with a queue of `max_waiting` at most.
    #[must_use]
    pub fn new(size: u32, max_waiting: u32, settings: Settings) -> Self {
        Self {
            queue: Queue::new(size, max_waiting),
            running: Running::new(),
            breaker: Breaker::new(settings),
            shares: Shares::new(),
            stopped: AtomicBool::new(false),
            ended: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Accepts a task or refuses it. After `due` it will not be begun.
    pub fn admit(&self, kind: Kind, due: Option<Nanos>, now: Nanos) -> Admission<P> {
        self.admit_for(None, kind, due, now)
    }

    /// The same for a caller, who may have only so many tasks at a time.
    pub fn admit_for(
        &self,
        caller: Option<Caller>,
        kind: Kind,
        due: Option<Nanos>,
        now: Nanos,
    ) -> Admission<P> {
        if caller.is_some_and(|caller| !self.shares.take(caller)) {
            return Admission::ShareTaken;
        }
        let admission = self.admit_counted(caller, kind, due, now);
        if let (Some(caller), Admission::Full | Admission::CircuitOpen) = (caller, &admission) {
            self.shares.give_back(caller);
        }
        admission
    }

    /// A caller by its name, for [`Tasks::admit_for`].
    #[must_use]
    pub fn caller(&self, name: &Name<'_>, most: u32) -> Caller {
        self.shares.caller(name, most)
    }

    /// How many callers have tasks.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.shares.callers()
    }

    fn admit_counted(
        &self,
        caller: Option<Caller>,
        kind: Kind,
        due: Option<Nanos>,
        now: Nanos,
    ) -> Admission<P> {
        let (permit, may_wait) = match kind {
            Kind::Uncounted if refuses(self.breaker.state(now)) => return Admission::CircuitOpen,
            Kind::Uncounted => (None, true),
            Kind::Counted => match self.breaker.check(now) {
                Check::Allow(permit) => (Some(permit), true),
                // A probe in a queue would keep the circuit half open for as long as that takes.
                Check::Probe(permit) => (Some(permit), false),
                Check::Deny { .. } => return Admission::CircuitOpen,
            },
        };
        let accepted = self.queue.admit(may_wait, |number, place| {
            let stage = match place {
                Place::Slot => Stage::Granted,
                Place::Queue => Stage::Waiting,
            };
            Arc::new(Task {
                number,
                due,
                permit,
                caller,
                progress: Mutex::new(Progress {
                    stage,
                    process: None,
                    cause: None,
                }),
            })
        });
        match (accepted, permit) {
            (Some(task), _) => Admission::Accepted(task),
            (None, Some(permit)) if !may_wait => {
                self.breaker.give_back(permit, now);
                Admission::CircuitOpen
            }
            (None, _) => Admission::Full,
        }
    }

    /// A process comes to run the task, for the first time or because it has been woken. The flag says that
    /// its deadline comes before [`Tasks::to_kill`] said that it has to be asked again.
    pub fn enter(&self, task: &Arc<Task<P>>, process: P, now: Nanos) -> (Entry, bool) {
        let mut progress = task.progress.lock();
        match progress.stage {
            Stage::Ended | Stage::Running => (Entry::Gone, false),
            _ if self.stopped.load(Acquire) => (Entry::Gone, false),
            Stage::Waiting => {
                progress.process = Some(process);
                (Entry::Wait, false)
            }
            Stage::Granted => {
                progress.process = Some(process);
                let sooner = self.running.add(task);
                // Who stops the pool looks at those that run after the flag: one of the two is seen.
                if self.stopped.load(Acquire) {
                    self.running.remove(task, false);
                    return (Entry::Gone, false);
                }
                progress.stage = Stage::Running;
                let late = task.due.is_some_and(|due| due <= now);
                (if late { Entry::Late } else { Entry::Run }, sooner)
            }
        }
    }

    /// The task has ended, or will not begin. Only the first time counts. One that was to be killed has
    /// failed, however it ended.
    pub fn finish(&self, task: &Task<P>, end: End, now: Nanos) -> Finish<P> {
        let (stage, cause) = {
            let mut progress = task.progress.lock();
            let stage = std::mem::replace(&mut progress.stage, Stage::Ended);
            (stage, progress.cause)
        };
        let end = if cause.is_some() { End::Failed } else { end };
        self.conclude(task, stage, cause, end, now)
    }

    /// The task is to end before its time. None: it runs and is named by [`Tasks::to_kill`] from now on.
    /// Otherwise it has been finished.
    pub fn cancel(&self, task: &Task<P>, cause: Cause, now: Nanos) -> Option<Finish<P>> {
        let stage = {
            let mut progress = task.progress.lock();
            if self.mark(task, &mut progress, cause) {
                return None;
            }
            std::mem::replace(&mut progress.stage, Stage::Ended)
        };
        Some(self.conclude(task, stage, None, End::Failed, now))
    }

    fn conclude(
        &self,
        task: &Task<P>,
        stage: Stage,
        cause: Option<Cause>,
        end: End,
        now: Nanos,
    ) -> Finish<P> {
        let mut finish = Finish {
            reached: Reached::NotBegun,
            wake: None,
            transition: Transition::None,
            cause,
        };
        if let (Some(caller), false) = (task.caller, stage == Stage::Ended) {
            self.shares.give_back(caller);
        }
        match stage {
            Stage::Ended => finish.reached = Reached::Ended,
            Stage::Waiting => self.queue.remove(task.number),
            Stage::Granted => {
                if let Some(permit) = task.permit {
                    self.breaker.give_back(permit, now);
                }
                finish.wake = self.pass_on();
            }
            Stage::Running => {
                finish.reached = Reached::Running;
                self.running.remove(task, cause.is_some());
                finish.transition = self.count(task, end, now);
                finish.wake = self.pass_on();
            }
        }
        finish
    }

    /// Whom to kill now, and when to ask again.
    #[must_use]
    pub fn to_kill(&self, now: Nanos) -> (Vec<P>, Option<Nanos>) {
        let (late, next) = self.running.overdue(now);
        for task in late {
            self.cancel_running(&task, Cause::Timeout);
        }
        (self.running.cancelled(), next)
    }

    /// Lets no task begin from now on. Returns whom to kill and whom to wake, to find out.
    #[must_use]
    pub fn stop(&self) -> (Vec<P>, Vec<P>) {
        self.stopped.store(true, SeqCst);
        for task in self.running.all() {
            self.cancel_running(&task, Cause::Stopped);
        }
        let waiting = self.queue.waiting();
        let wake = waiting.iter().filter_map(|task| task.process());
        (self.running.cancelled(), wake.collect())
    }

    /// Somebody else asks [`Tasks::to_kill`] from now on, and has been told nothing yet. Takes [`Tasks::stop`]
    /// back.
    pub fn set_server(&self) {
        self.running.forget_alarm();
        self.stopped.store(false, SeqCst);
    }

    /// The numbers, at this moment.
    #[must_use]
    pub fn status(&self, now: Nanos) -> TaskStatus {
        let counts = self.queue.counts();
        let circuit = self.breaker.state(now);
        TaskStatus {
            size: self.queue.size(),
            running: counts.running,
            waiting: counts.waiting,
            circuit_open: !matches!(circuit, breaker::State::Closed),
            refusing: refuses(circuit),
            ended: self.ended.load(Acquire),
            failed: self.failed.load(Acquire),
        }
    }

    fn cancel_running(&self, task: &Task<P>, cause: Cause) {
        self.mark(task, &mut task.progress.lock(), cause);
    }

    /// Names a task that runs as one to be killed. Under its lock, or it could have ended.
    fn mark(&self, task: &Task<P>, progress: &mut Progress<P>, cause: Cause) -> bool {
        let (Stage::Running, Some(process)) = (progress.stage, progress.process) else {
            return false;
        };
        progress.cause.get_or_insert(cause);
        self.running.cancel(task, process);
        true
    }

    fn count(&self, task: &Task<P>, end: End, now: Nanos) -> Transition {
        let outcome = match end {
            End::Returned => Outcome::Success,
            End::Failed => Outcome::Failure,
        };
        self.failed.fetch_add(u64::from(end == End::Failed), AcqRel);
        self.ended.fetch_add(1, AcqRel);
        match task.permit {
            Some(permit) => self.breaker.record(permit, outcome, None, now),
            None => Transition::None,
        }
    }

    /// The slot goes to the first who still waits. None: it is free, or whoever has it will come by itself.
    fn pass_on(&self) -> Option<P> {
        while let Some(next) = self.queue.release() {
            let mut progress = next.progress.lock();
            if progress.stage == Stage::Waiting {
                progress.stage = Stage::Granted;
                return progress.process;
            }
        }
        None
    }
}

/// What does not count is no probe, and does not wait for one.
fn refuses(circuit: breaker::State) -> bool {
    matches!(circuit, breaker::State::Open { retry_in } if retry_in > Nanos::ZERO)
}
