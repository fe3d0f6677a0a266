//! A pool of slots with a queue: who may run, who waits, who is next.
//!
//! Nothing here runs anything. Whoever has work asks for a [`Ticket`], makes a process (`P` names it), and the
//! process enters with the ticket and finishes with it. Whoever finishes hands its slot to the first in the
//! queue, and is told whom to wake. So no thread and no process stands between a task and its slot.
//!
//! ```
//! use gen_api_core::breaker::Settings;
//! use gen_api_core::clock::Nanos;
//! use gen_api_core::pool::{Admission, End, Entry, Kind, Pool};
//!
//! let pool = Pool::<u32>::new(1, 10, Settings::default());
//! let now = Nanos::ZERO;
//! let ticket = |kind| match pool.admit(kind, None, now) {
//!     Admission::Accepted(ticket) => ticket,
//!     _ => unreachable!(),
//! };
//! let (first, second) = (ticket(Kind::Counted), ticket(Kind::Counted));
//! assert_eq!(pool.enter(&first, 1, now).0, Entry::Run);
//! assert_eq!(pool.enter(&second, 2, now).0, Entry::Wait);
//! assert_eq!(pool.finish(&first, End::Returned, now).wake, Some(2));
//! assert_eq!(pool.enter(&second, 2, now).0, Entry::Run);
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `line` | how many run and wait, and the queue |
//! | `ticket` | a task on its way |
//! | `roster` | the tasks that run, their deadlines, and those to be killed |
//! | `tasks` | a pool: admit, enter, finish |

mod line;
mod roster;
mod tasks;
mod ticket;

pub use tasks::{Pool, Status};
pub use ticket::{Cause, Ticket};

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
    /// It will run, at once or later. The ticket has to be finished by somebody.
    Accepted(Arc<Ticket<P>>),
    /// No slot is free and the queue is full.
    Full,
    /// The circuit is open.
    CircuitOpen,
}

/// The answer to a process that comes with a ticket.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It has a slot.
    Run,
    /// It has a slot, but its time has passed in the queue.
    Late,
    /// Its turn has not come: it will be woken.
    Wait,
    /// The ticket has been finished by somebody else.
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
    pub was: Was,
    /// Who has its slot now, if that process has entered already.
    pub wake: Option<P>,
    /// What it did to the breaker.
    pub transition: Transition,
    /// Why it was to be killed, if it was.
    pub cause: Option<Cause>,
}

/// How far a task had come when it was finished.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Was {
    /// It had not begun, and never will.
    NotBegun,
    /// It had begun.
    Running,
    /// It had been finished before: nothing was changed.
    Ended,
}
