use crate::sync::Mutex;

use crate::breaker::Permit;
use crate::clock::Nanos;

use super::shares::Caller;

/// A task on its way: it waits, has been granted a slot, runs, has ended. Each step is taken once.
#[derive(Debug)]
pub struct Task<P> {
    pub(super) number: u64,
    pub(super) due: Option<Nanos>,
    pub(super) permit: Option<Permit>,
    pub(super) caller: Option<Caller>,
    pub(super) progress: Mutex<Progress<P>>,
}

impl<P: Copy> Task<P> {
    /// Whether its turn has not come yet.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.progress.lock().stage == Stage::Waiting
    }

    /// The process that has entered with it.
    #[must_use]
    pub fn process(&self) -> Option<P> {
        self.progress.lock().process
    }
}

#[derive(Debug)]
pub(super) struct Progress<P> {
    pub(super) stage: Stage,
    pub(super) process: Option<P>,
    pub(super) cause: Option<Cause>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Waiting,
    Granted,
    Running,
    Ended,
}

/// Why a running task is to be killed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time has passed.
    Timeout,
    /// The process it works for has died.
    OwnerDied,
    /// The pool has been stopped.
    Stopped,
}
