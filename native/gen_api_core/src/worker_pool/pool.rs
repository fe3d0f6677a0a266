use super::keeper::{Keeper, News};
use super::slot::{Effects, Ending, OnDeath, Slot};
use super::tasks::Tasks;
use super::ticket::Cause;
use super::{Admission, End, Entry, Finish, Kind, Was};
use crate::breaker::{Settings, Transition};
use crate::clock::Nanos;

/// A pool. `P` names a process, `M` is a message.
#[derive(Debug)]
pub struct WorkerPool<P, M> {
    tasks: Tasks<P>,
    keeper: Keeper<P, M>,
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
}

/// What became of a task that its process has left.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// It has ended, which did that to the circuit.
    Ended(Transition),
    /// The keeper has been told to kill it. It may do so before the process can tell anybody of the end, so the
    /// keeper tells.
    Killed,
}

/// What the keeper has to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Attention<P, M> {
    /// Whom to kill. They are named again and again until they have ended.
    pub kill: Vec<P>,
    /// What else to see to, once.
    pub news: Vec<News<M>>,
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
            keeper: Keeper::none(),
        }
    }

    /// This process is the keeper from now on, and the pool is open until it has ended. It looks at once.
    pub fn adopt(&self, process: P) {
        self.keeper.adopt(process);
        self.tasks.adopt();
        self.keeper.open();
    }

    /// A process has ended that was the keeper.
    pub fn keeper_ended(&self, process: P) {
        self.keeper.ended(process);
    }

    /// What the keeper has to do now.
    #[must_use]
    pub fn attend(&self, now: Nanos) -> Attention<P, M> {
        self.keeper.begin();
        let (kill, next) = self.tasks.to_kill(now);
        Attention {
            kill,
            news: self.keeper.take_news(),
            next,
        }
    }

    /// Accepts nothing more and lets nothing begin. Returns whom to kill and whom to wake, to find out.
    #[must_use]
    pub fn stop(&self) -> (Vec<P>, Vec<P>) {
        self.keeper.close();
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
        if !self.keeper.is_open() {
            return Err(Refusal::Closed);
        }
        match self.tasks.admit(kind, due, now) {
            Admission::Accepted(ticket) => Ok(Slot::new(ticket, on_death())),
            Admission::Full => Err(Refusal::QueueFull),
            Admission::CircuitOpen => Err(Refusal::CircuitOpen),
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
        let (entry, sooner) = self.tasks.enter(&slot.ticket, process, now);
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
            effects.notify = effects.notify.or_else(|| self.keeper.notify());
        }
        (entry, effects)
    }

    /// The process of a task leaves, or will not begin it.
    pub fn leave(&self, slot: &Slot<P, M>, ending: Ending, now: Nanos) -> (Left, Effects<P, M>) {
        let end = match ending {
            Ending::Returned => End::Returned,
            Ending::Failed => End::Failed,
            Ending::Answered => {
                slot.forget_on_death();
                End::Failed
            }
        };
        let (finish, effects) = self.end(slot, end, now);
        if finish.was == Was::Running && finish.cause.is_some() {
            return (Left::Killed, self.report(slot, &finish, effects));
        }
        (Left::Ended(finish.transition), effects)
    }

    /// A process that the slot watches has ended: that of the task, or whom it works for.
    pub fn ended(&self, slot: &Slot<P, M>, process: P, now: Nanos) -> Effects<P, M> {
        if !slot.is_owned_by(process) {
            let (finish, effects) = self.end(slot, End::Failed, now);
            return if finish.was == Was::Running {
                self.report(slot, &finish, effects)
            } else {
                effects
            };
        }
        match self.tasks.cancel(&slot.ticket, Cause::OwnerDied, now) {
            None => Effects {
                notify: self.keeper.notify(),
                ..Effects::none()
            },
            Some(finish) => {
                let mut effects = self.effects(slot, &finish, End::Failed);
                // Its process, if it waits, may go.
                effects.wake = [finish.wake, slot.ticket.process()];
                effects
            }
        }
    }

    /// Nobody can run the task any more: its submitter died before it made the process.
    pub fn lost(&self, slot: &Slot<P, M>, now: Nanos) -> Effects<P, M> {
        self.end(slot, End::Failed, now).1
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
        let finish = self.tasks.finish(&slot.ticket, end, now);
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
                self.keeper.add(News::Message(message));
                effects.notify = self.keeper.notify();
            }
        }
        effects
    }

    /// Has the keeper tell of a task that was killed while it ran.
    fn report(
        &self,
        slot: &Slot<P, M>,
        finish: &Finish<P>,
        effects: Effects<P, M>,
    ) -> Effects<P, M> {
        self.keeper.add(News::Killed {
            started: slot.started(),
            cause: finish.cause,
            transition: finish.transition,
        });
        Effects {
            notify: effects.notify.or_else(|| self.keeper.notify()),
            ..effects
        }
    }
}
