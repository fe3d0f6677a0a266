//! The tasks that run: to be found when their time has passed, their owner has died or the pool stops.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sync::{values, DashMap, Mutex, RandomState};

use super::ticket::Ticket;
use crate::clock::Nanos;

// Tasks begin and end on all cores; one lock would be passed between them.
const SHARDS: usize = 16;

#[derive(Debug)]
struct Deadlines<P> {
    tickets: BTreeMap<(Nanos, u64), Arc<Ticket<P>>>,
    // When whoever sees to them looks again, as far as it has been told; None: never.
    alarm: Option<Nanos>,
}

#[derive(Debug)]
pub(super) struct Running<P> {
    tickets: DashMap<u64, Arc<Ticket<P>>>,
    deadlines: Mutex<Deadlines<P>>,
    cancelled: Mutex<BTreeMap<u64, P>>,
}

impl<P: Copy> Running<P> {
    pub(super) fn new() -> Self {
        Self {
            tickets: DashMap::with_hasher_and_shard_amount(RandomState::new(), SHARDS),
            deadlines: Mutex::new(Deadlines {
                tickets: BTreeMap::new(),
                alarm: None,
            }),
            cancelled: Mutex::new(BTreeMap::new()),
        }
    }

    /// True when its deadline comes before [`Running::overdue`] is asked again.
    pub(super) fn add(&self, ticket: &Arc<Ticket<P>>) -> bool {
        self.tickets.insert(ticket.number, Arc::clone(ticket));
        let Some(due) = ticket.due else { return false };
        let mut deadlines = self.deadlines.lock();
        let Deadlines { tickets, alarm } = &mut *deadlines;
        tickets.insert((due, ticket.number), Arc::clone(ticket));
        let sooner = alarm.is_none_or(|alarm| due < alarm);
        if sooner {
            *alarm = Some(due);
        }
        sooner
    }

    pub(super) fn remove(&self, ticket: &Ticket<P>, cancelled: bool) {
        self.tickets.remove(&ticket.number);
        if let Some(due) = ticket.due {
            self.deadlines.lock().tickets.remove(&(due, ticket.number));
        }
        if cancelled {
            self.cancelled.lock().remove(&ticket.number);
        }
    }

    pub(super) fn cancel(&self, ticket: &Ticket<P>, process: P) {
        self.cancelled.lock().insert(ticket.number, process);
    }

    /// Whom to kill. They are named again and again until they have ended, so none is forgotten when
    /// whoever asked dies before it has killed them.
    pub(super) fn cancelled(&self) -> Vec<P> {
        self.cancelled.lock().values().copied().collect()
    }

    /// The tasks whose time has passed, and when to ask again: when the time of the next one will have
    /// passed, or before, as was said before. Who asks has a timer for that; if it was put off whenever a
    /// task has ended, the next task would put it forward again, and so every task might.
    pub(super) fn overdue(&self, now: Nanos) -> (Vec<Arc<Ticket<P>>>, Option<Nanos>) {
        let mut deadlines = self.deadlines.lock();
        let Deadlines { tickets, alarm } = &mut *deadlines;
        let late = tickets
            .iter()
            .take_while(|((due, _), _)| *due <= now)
            .map(|(_, ticket)| Arc::clone(ticket))
            .collect();
        let next = tickets.range((now.saturating_add(Nanos(1)), 0)..).next();
        let next = next.map(|((due, _), _)| *due);
        let set = alarm.filter(|alarm| *alarm > now);
        *alarm = match (set, next) {
            (Some(set), Some(next)) => Some(set.min(next)),
            (set, next) => set.or(next),
        };
        (late, *alarm)
    }

    /// Whoever asked [`Running::overdue`] has gone, with its timer.
    pub(super) fn forget_alarm(&self) {
        self.deadlines.lock().alarm = None;
    }

    pub(super) fn all(&self) -> Vec<Arc<Ticket<P>>> {
        values(&self.tickets)
    }
}
