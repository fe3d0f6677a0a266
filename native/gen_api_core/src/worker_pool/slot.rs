//! A task that was accepted, and what its end has others do.

use super::task::Task;
use super::{End, Finish, Reached};
use crate::sync::atomic::{AtomicI64, Ordering::SeqCst};
use crate::sync::Mutex;
use std::sync::Arc;

/// What is sent if a task fails or is lost.
#[derive(Debug)]
pub struct OnDeath<P, M> {
    /// To whom; none for a process of another node, which the server sends to.
    pub to: Option<P>,
    /// What.
    pub message: M,
}

/// A task that was accepted. It has to be left by somebody, see [`super::WorkerPool::lost`].
#[derive(Debug)]
pub struct Slot<P, M> {
    pub(super) task: Arc<Task<P>>,
    on_death: Mutex<Option<OnDeath<P, M>>>,
    owner: Mutex<Option<P>>,
    started: AtomicI64,
}

/// How the process of a task leaves.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TaskResult {
    /// The task has ended well.
    Returned,
    /// Badly.
    Failed,
    /// Badly, and whom it was for is told so by its process.
    Answered,
}

/// What a step has others do, in this order.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "nobody else does it"]
pub struct Effects<P, M> {
    /// These processes have to ask whether their turn has come.
    pub wake: [Option<P>; 2],
    /// This message has to be sent.
    pub send: Option<(P, M)>,
    /// The server has to look.
    pub notify: Option<P>,
}

impl<P, M> Effects<P, M> {
    pub(super) const fn none() -> Self {
        Self {
            wake: [None, None],
            send: None,
            notify: None,
        }
    }
}

impl<P: Copy + PartialEq, M> Slot<P, M> {
    pub(super) fn new(task: Arc<Task<P>>, on_death: Option<OnDeath<P, M>>) -> Self {
        Self {
            task,
            on_death: Mutex::new(on_death),
            owner: Mutex::new(None),
            started: AtomicI64::new(0),
        }
    }

    /// Whether its turn has not come yet.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.task.waits()
    }

    /// Names the process that the task works for. Before it is watched: it may die at once.
    pub fn set_owner(&self, owner: P) {
        *self.owner.lock() = Some(owner);
    }

    pub(super) fn is_owned_by(&self, process: P) -> bool {
        *self.owner.lock() == Some(process)
    }

    pub(super) fn set_started(&self, started: i64) {
        self.started.store(started, SeqCst);
    }

    pub(super) fn started(&self) -> i64 {
        self.started.load(SeqCst)
    }

    /// Nobody has to be told any more if it dies.
    pub(super) fn forget_on_death(&self) {
        *self.on_death.lock() = None;
    }

    /// What has to be sent after it ended like this, if it did so just now.
    pub(super) fn take_on_death(&self, finish: &Finish<P>, end: End) -> Option<OnDeath<P, M>> {
        if finish.reached == Reached::Ended {
            return None;
        }
        // Taken in any case: the submitter may keep the slot alive for long.
        let on_death = self.on_death.lock().take();
        let lost = finish.reached == Reached::NotBegun || end == End::Failed;
        on_death.filter(|_| lost)
    }
}
