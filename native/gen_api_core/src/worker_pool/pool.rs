use super::server::{Notice, Server};
use super::shares::Name;
use super::slot::{Effects, OnDeath, Slot, TaskResult};
use super::task::Cause;
use super::tasks::Tasks;
use super::{Admission, End, Entry, Finish, Kind, Reached};
use crate::breaker::{Settings, Transition};
use crate::clock::Nanos;

/// A pool. `P` names a process, `M` is a message.
#[derive(Debug)]
pub struct WorkerPool<P, M> {
    tasks: Tasks<P>,
    server: Server<P, M>,
}

/// Why a task is not accepted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody keeps the pool.
    Closed,
    /// No slot is free and the queue is full.
    QueueFull,
    /// The circuit is open.
    CircuitOpen,
    /// The caller has as many tasks as one may.
    ShareTaken,
}

/// What became of a task that its process has left.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It has ended, which did that to the circuit.
    Ended(Transition),
    /// The server has been told to kill it. It may do so before the process can tell anybody of the end, so the
    /// server tells.
    Killed,
}

/// What the server has to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Work<P, M> {
    /// Whom to kill. They are named again and again until they have ended.
    pub kill: Vec<P>,
    /// What else to see to, once.
    pub notices: Vec<Notice<M>>,
    /// When to look again if nobody says so before.
    pub next: Option<Nanos>,
}

/// What the circuit of a pool does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Circuit {
    /// Tasks are accepted.
    Closed,
    /// Tasks that do not count are accepted: the next that counts is the probe, or it is under way.
    Probing,
    /// Nothing is accepted.
    Open,
}

/// The numbers of a pool.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Slots.
    pub size: u32,
    /// Slots that are taken.
    pub running: u32,
    /// Tasks in the queue.
    pub waiting: u32,
    /// The circuit.
    pub circuit: Circuit,
    /// Tasks that have begun and ended, one way or the other.
    pub ended: u64,
    /// Those of them that have failed.
    pub failed: u64,
}

impl<P: Copy + PartialEq, M> WorkerPool<P, M> {
    /// A closed pool of `size` slots with a queue of `max_waiting` at most. Probes are always recorded or given
    /// back, so they do not expire, whatever `settings` say.
    #[must_use]
    pub fn new(size: u32, max_waiting: u32, settings: Settings) -> Self {
        Self {
            tasks: Tasks::new(size, max_waiting, settings),
            server: Server::none(),
        }
    }

    /// This process is the server from now on, and the pool is open until it has ended. It looks at once.
    pub fn set_server(&self, process: P) {
        self.server.set_server(process);
        self.tasks.set_server();
        self.server.open();
    }

    /// A process has ended that was the server.
    pub fn server_exited(&self, process: P) {
        self.server.ended(process);
    }

    /// What the server has to do now.
    #[must_use]
    pub fn take_work(&self, now: Nanos) -> Work<P, M> {
        self.server.begin();
        let (kill, next) = self.tasks.to_kill(now);
        Work {
            kill,
            notices: self.server.take_notices(),
            next,
        }
    }

    /// Accepts nothing more and lets nothing begin. Returns whom to kill and whom to wake, to find out.
    #[must_use]
    pub fn stop(&self) -> (Vec<P>, Vec<P>) {
        self.server.close();
        self.tasks.stop()
    }

    /// Accepts a task or says why not. After `due` it will not be begun. `on_death` is asked for what has to be
    /// sent if it fails or is lost.
    ///
    /// # Errors
    ///
    /// See [`Refusal`].
    pub fn admit(
        &self,
        kind: Kind,
        due: Option<Nanos>,
        on_death: impl FnOnce() -> Option<OnDeath<P, M>>,
        now: Nanos,
    ) -> Result<Slot<P, M>, Refusal> {
        self.admit_for(None, kind, due, on_death, now)
    }

    /// The same for a caller, by its name, who may have only so many tasks at a time.
    ///
    /// # Errors
    ///
    /// See [`Refusal`].
    pub fn admit_for(
        &self,
        caller: Option<(Name<'_>, u32)>,
        kind: Kind,
        due: Option<Nanos>,
        on_death: impl FnOnce() -> Option<OnDeath<P, M>>,
        now: Nanos,
    ) -> Result<Slot<P, M>, Refusal> {
        if !self.server.is_open() {
            return Err(Refusal::Closed);
        }
        let caller = caller.map(|(name, most)| self.tasks.caller(&name, most));
        match self.tasks.admit_for(caller, kind, due, now) {
            Admission::Accepted(task) => Ok(Slot::new(task, on_death())),
            Admission::Full => Err(Refusal::QueueFull),
            Admission::CircuitOpen => Err(Refusal::CircuitOpen),
            Admission::ShareTaken => Err(Refusal::ShareTaken),
        }
    }

    /// A process comes to run the task of a slot, for the first time or because it has been woken, at a time that
    /// it names itself. `orphaned` says that whom it works for has died before that could be watched.
    pub fn enter(
        &self,
        slot: &Slot<P, M>,
        process: P,
        orphaned: bool,
        started: i64,
        now: Nanos,
    ) -> (Entry, Effects<P, M>) {
        slot.set_started(started);
        let (entry, sooner) = self.tasks.enter(&slot.task, process, now);
        let entry = match entry {
            Entry::Run if orphaned => Entry::Orphaned,
            Entry::Wait if orphaned => Entry::Gone,
            entry => entry,
        };
        let mut effects = Effects::none();
        if entry == Entry::Gone {
            (_, effects) = self.end(slot, End::Failed, now);
        }
        if sooner {
            effects.notify = effects.notify.or_else(|| self.server.notify());
        }
        (entry, effects)
    }

    /// The process of a task leaves, or will not begin it.
    pub fn leave(
        &self,
        slot: &Slot<P, M>,
        result: TaskResult,
        now: Nanos,
    ) -> (Left, Effects<P, M>) {
        let end = match result {
            TaskResult::Returned => End::Returned,
            TaskResult::Failed => End::Failed,
            TaskResult::Answered => {
                slot.forget_on_death();
                End::Failed
            }
        };
        let (finish, effects) = self.end(slot, end, now);
        if finish.reached == Reached::Running && finish.cause.is_some() {
            return (Left::Killed, self.report(slot, &finish, effects));
        }
        (Left::Ended(finish.transition), effects)
    }

    /// A process that the slot watches has ended: that of the task, or whom it works for.
    pub fn ended(&self, slot: &Slot<P, M>, process: P, now: Nanos) -> Effects<P, M> {
        if !slot.is_owned_by(process) {
            let (finish, effects) = self.end(slot, End::Failed, now);
            return if finish.reached == Reached::Running {
                self.report(slot, &finish, effects)
            } else {
                effects
            };
        }
        match self.tasks.cancel(&slot.task, Cause::OwnerDied, now) {
            None => Effects {
                notify: self.server.notify(),
                ..Effects::none()
            },
            Some(finish) => {
                let mut effects = self.effects(slot, &finish, End::Failed);
                // Its process, if it waits, may go.
                effects.wake = [finish.wake, slot.task.process()];
                effects
            }
        }
    }

    /// Nobody can run the task any more: its submitter died before it made the process.
    pub fn lost(&self, slot: &Slot<P, M>, now: Nanos) -> Effects<P, M> {
        self.end(slot, End::Failed, now).1
    }

    /// How many callers have tasks.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.tasks.callers()
    }

    /// The numbers, at this moment.
    #[must_use]
    pub fn status(&self, now: Nanos) -> Status {
        let status = self.tasks.status(now);
        Status {
            size: status.size,
            running: status.running,
            waiting: status.waiting,
            circuit: match (status.circuit_open, status.refusing) {
                (false, _) => Circuit::Closed,
                (true, false) => Circuit::Probing,
                (true, true) => Circuit::Open,
            },
            ended: status.ended,
            failed: status.failed,
        }
    }

    fn end(&self, slot: &Slot<P, M>, end: End, now: Nanos) -> (Finish<P>, Effects<P, M>) {
        let finish = self.tasks.finish(&slot.task, end, now);
        let effects = self.effects(slot, &finish, end);
        (finish, effects)
    }

    fn effects(&self, slot: &Slot<P, M>, finish: &Finish<P>, end: End) -> Effects<P, M> {
        let mut effects = Effects {
            wake: [finish.wake, None],
            ..Effects::none()
        };
        match slot.take_on_death(finish, end) {
            None => {}
            Some(OnDeath {
                to: Some(process),
                message,
            }) => effects.send = Some((process, message)),
            Some(OnDeath { to: None, message }) => {
                self.server.add(Notice::Message(message));
                effects.notify = self.server.notify();
            }
        }
        effects
    }

    /// Has the server tell of a task that was killed while it ran.
    fn report(
        &self,
        slot: &Slot<P, M>,
        finish: &Finish<P>,
        effects: Effects<P, M>,
    ) -> Effects<P, M> {
        self.server.add(Notice::Killed {
            started: slot.started(),
            cause: finish.cause,
            transition: finish.transition,
        });
        Effects {
            notify: effects.notify.or_else(|| self.server.notify()),
            ..effects
        }
    }
}
