//! The tasks that run: to be found when their time has passed, their owner has died or the pool stops.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::sync::{values, DashMap, Mutex, RandomState};

use super::task::Task;
use crate::clock::Nanos;

// Tasks begin and end on all cores; one lock would be passed between them.
const SHARDS: usize = 16;

#[derive(Debug)]
struct Deadlines<P> {
    tasks: BTreeMap<(Nanos, u64), Arc<Task<P>>>,
    // When whoever sees to them looks again, as far as it has been told; None: never.
    alarm: Option<Nanos>,
}

#[derive(Debug)]
pub(super) struct Running<P> {
    tasks: DashMap<u64, Arc<Task<P>>>,
    deadlines: Mutex<Deadlines<P>>,
    cancelled: Mutex<BTreeMap<u64, P>>,
}

impl<P: Copy> Running<P> {
    pub(super) fn new() -> Self {
        Self {
            tasks: DashMap::with_hasher_and_shard_amount(RandomState::new(), SHARDS),
            deadlines: Mutex::new(Deadlines {
                tasks: BTreeMap::new(),
                alarm: None,
            }),
            cancelled: Mutex::new(BTreeMap::new()),
        }
    }

    /// True when its deadline comes before [`Running::overdue`] is asked again.
    pub(super) fn add(&self, task: &Arc<Task<P>>) -> bool {
        self.tasks.insert(task.number, Arc::clone(task));
        let Some(due) = task.due else { return false };
        let mut deadlines = self.deadlines.lock();
        let Deadlines { tasks, alarm } = &mut *deadlines;
        tasks.insert((due, task.number), Arc::clone(task));
        let sooner = alarm.is_none_or(|alarm| due < alarm);
        if sooner {
            *alarm = Some(due);
        }
        sooner
    }

    pub(super) fn remove(&self, task: &Task<P>, cancelled: bool) {
        self.tasks.remove(&task.number);
        if let Some(due) = task.due {
            self.deadlines.lock().tasks.remove(&(due, task.number));
        }
        if cancelled {
            self.cancelled.lock().remove(&task.number);
        }
    }

    pub(super) fn cancel(&self, task: &Task<P>, process: P) {
        self.cancelled.lock().insert(task.number, process);
    }

    /// Whom to kill. They are named again and again until they have ended, so none is forgotten when
    /// whoever asked dies before it has killed them.
    pub(super) fn cancelled(&self) -> Vec<P> {
        self.cancelled.lock().values().copied().collect()
    }

    /// The tasks whose time has passed, and when to ask again: when the time of the next one will have
    /// passed, or before, as was said before. Who asks has a timer for that; if it was put off whenever a
    /// task has ended, the next task would put it forward again, and so every task might.
    pub(super) fn overdue(&self, now: Nanos) -> (Vec<Arc<Task<P>>>, Option<Nanos>) {
        let mut deadlines = self.deadlines.lock();
        let Deadlines { tasks, alarm } = &mut *deadlines;
        let late = tasks
            .iter()
            .take_while(|((due, _), _)| *due <= now)
            .map(|(_, task)| Arc::clone(task))
            .collect();
        let next = tasks.range((now.saturating_add(Nanos(1)), 0)..).next();
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

    pub(super) fn all(&self) -> Vec<Arc<Task<P>>> {
        values(&self.tasks)
    }
}
