//! A pool of slots with a queue: who may run, who waits, who is next, and who is told of what.
//!
//! Nothing here runs anything. Whoever has work asks for a [`Slot`], makes a process (`P` names it), and the
//! process enters with the slot and leaves it. Whoever leaves hands the slot to the first in the queue, and is
//! told whom to wake. So no thread and no process stands between a task and its slot. What nobody but a process
//! can do is left to one, the server.
//!
//! ```
//! use gen_api_core::breaker::Settings;
//! use gen_api_core::clock::Nanos;
//! use gen_api_core::worker_pool::{TaskResult, Entry, Kind, Slot, WorkerPool};
//!
//! let pool = WorkerPool::<u32, &str>::new(1, 10, Settings::default());
//! let now = Nanos::ZERO;
//! pool.set_server(0);
//! let slot = || pool.admit(Kind::Counted, None, || None, now).unwrap();
//! let (first, second) = (slot(), slot());
//! assert_eq!(pool.enter(&first, 1, false, 0, now).0, Entry::Run);
//! assert_eq!(pool.enter(&second, 2, false, 0, now).0, Entry::Wait);
//! assert_eq!(pool.leave(&first, TaskResult::Returned, now).1.wake, [Some(2), None]);
//! assert_eq!(pool.enter(&second, 2, false, 0, now).0, Entry::Run);
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `pool` | a pool: admit, enter, leave |
//! | `slot` | a task that was accepted, and what its end has others do |
//! | `server` | the process that does what tasks cannot |
//! | `tasks` | the steps of tasks, without what others do |
//! | `queue` | how many run and wait, and who waits |
//! | `running` | the tasks that run, their deadlines, and those to be killed |
//! | `shares` | how many tasks each caller has |
//! | `task` | a task on its way through the steps |

mod pool;
mod queue;
mod running;
mod server;
mod shares;
mod slot;
mod task;
mod tasks;

pub use pool::{Circuit, Left, Refusal, Status, Work, WorkerPool};
pub use server::Notice;
pub use shares::{Caller, Name};
pub use slot::{Effects, OnDeath, Slot, TaskResult};
pub use task::{Cause, Task};
pub use tasks::{TaskStatus, Tasks};

use std::sync::Arc;

use crate::breaker::Transition;

/// Whether the outcome of a task counts for the breaker of the pool.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does, and its success may close the circuit.
    Counted,
    /// It does not. While the circuit is open it is refused like the others.
    Uncounted,
}

/// The answer to who wants to run a task.
#[derive(Debug)]
pub enum Admission<P> {
    /// It will run, at once or later. The task has to be finished by somebody.
    Accepted(Arc<Task<P>>),
    /// No slot is free and the queue is full.
    Full,
    /// The circuit is open.
    CircuitOpen,
    /// The caller has as many tasks as one may.
    ShareTaken,
}

/// The answer to a process that comes with a task.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It has a slot.
    Run,
    /// It has a slot, but its time has passed in the queue.
    Late,
    /// It has a slot, but whom it works for has died.
    Orphaned,
    /// Its turn has not come: it will be woken.
    Wait,
    /// The task has been finished by somebody else.
    Gone,
}

/// How a task ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Well.
    Returned,
    /// Badly.
    Failed,
}

/// What the end of a task brings about.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Finish<P> {
    /// How far it had come.
    pub reached: Reached,
    /// Who has its slot now, if that process has entered already.
    pub wake: Option<P>,
    /// What it did to the breaker.
    pub transition: Transition,
    /// Why it was to be killed, if it was.
    pub cause: Option<Cause>,
}

/// How far a task had come when it was finished.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It had not begun, and never will.
    NotBegun,
    /// It had begun.
    Running,
    /// It had been finished before: nothing was changed.
    Ended,
}
