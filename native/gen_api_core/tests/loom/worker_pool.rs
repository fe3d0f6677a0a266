use std::sync::Arc;

use gen_api_core::breaker::Settings;
use gen_api_core::clock::Nanos;
use gen_api_core::worker_pool::{
    Admission, Cause, End, Entry, Kind, Notice, OnDeath, Reached, Slot, Task, TaskResult, Tasks,
    WorkerPool,
};

use super::{explore, race};

const NOW: Nanos = Nanos::ZERO;

/// A pool of one slot, and tasks that were taken before.
struct World(Tasks<usize>, Vec<Arc<Task<usize>>>);

impl World {
    fn new(max_waiting: u32, tasks: usize) -> Arc<Self> {
        let pool = Tasks::new(1, max_waiting, Settings::default());
        let tasks = (0..tasks).map(|_| admit(&pool).unwrap()).collect();
        Arc::new(World(pool, tasks))
    }

    fn enter(&self, number: usize) -> Entry {
        self.0.enter(&self.1[number], number, NOW).0
    }

    fn finish(&self, number: usize) -> (Reached, Option<usize>) {
        let finish = self.0.finish(&self.1[number], End::Returned, NOW);
        (finish.reached, finish.wake)
    }

    fn counts(&self) -> (u32, u32) {
        let status = self.0.status(NOW);
        (status.running, status.waiting)
    }
}

fn admit(pool: &Tasks<usize>) -> Option<Arc<Task<usize>>> {
    match pool.admit(Kind::Uncounted, None, NOW) {
        Admission::Accepted(task) => Some(task),
        Admission::Full => None,
        refused => panic!("nothing fails: {refused:?}"),
    }
}

#[test]
fn of_three_one_runs_one_waits_and_one_is_refused() {
    explore(|| {
        let world = World::new(1, 0);
        let come = |w: &World| admit(&w.0).map(|task| w.0.enter(&task, 0, NOW).0);
        let came = race(&world, [come; 3]);
        for expected in [Some(Entry::Run), Some(Entry::Wait), None] {
            assert_eq!(came.iter().filter(|came| **came == expected).count(), 1);
        }
        assert_eq!(world.counts(), (1, 1));
    });
}

#[test]
fn a_slot_given_back_while_somebody_comes_is_his() {
    explore(|| {
        let world = World::new(1, 1);
        world.enter(0);
        let came = race(
            &world,
            [
                |w: &World| {
                    w.finish(0);
                    None
                },
                |w| admit(&w.0),
            ],
        );
        let task = came[1].as_ref().unwrap();
        assert_eq!(world.counts(), (1, 0));
        assert_eq!(world.0.enter(task, 1, NOW).0, Entry::Run);
    });
}

#[test]
fn who_waits_is_woken_or_finds_his_slot() {
    explore(|| {
        let world = World::new(1, 2);
        world.enter(0);
        let [woken, ran] = race(
            &world,
            [
                |w: &World| w.finish(0).1 == Some(1),
                |w| w.enter(1) == Entry::Run,
            ],
        );
        assert!(woken != ran);
        assert_eq!(world.counts(), (1, 0));
    });
}

#[test]
fn a_slot_passes_by_one_who_gives_up() {
    explore(|| {
        let world = World::new(2, 3);
        for number in 0..3 {
            world.enter(number);
        }
        let [first, second] = race(&world, [|w: &World| w.finish(0), |w| w.finish(1)]);
        assert_eq!(first.0, Reached::Running);
        assert_eq!(second.0, Reached::NotBegun);
        // Who is told of the third depends on who comes last.
        let woken = [first.1, second.1];
        assert!(woken.contains(&Some(2)), "{woken:?}");
        assert_eq!(world.counts(), (1, 0));
        assert_eq!(world.enter(2), Entry::Run);
    });
}

#[test]
fn a_task_ends_once_whoever_ends_it() {
    explore(|| {
        let world = World::new(0, 1);
        world.enter(0);
        let ends = race(&world, [|w: &World| w.finish(0).0; 2]);
        assert!(ends.contains(&Reached::Running) && ends.contains(&Reached::Ended));
        assert_eq!(world.counts(), (0, 0));
        assert_eq!(world.0.status(NOW).ended, 1);
    });
}

#[test]
fn a_task_that_is_cancelled_is_named_or_never_begins() {
    explore(|| {
        let world = World::new(0, 1);
        let [ran, cancelled] = race(
            &world,
            [
                |w: &World| w.enter(0) == Entry::Run,
                |w| w.0.cancel(&w.1[0], Cause::OwnerDied, NOW).is_none(),
            ],
        );
        assert_eq!(ran, cancelled);
        assert_eq!(world.0.to_kill(NOW).0.contains(&0), cancelled);
        world.finish(0);
        assert_eq!(world.0.to_kill(NOW).0, []);
        assert_eq!(world.counts(), (0, 0));
    });
}

#[test]
fn nothing_begins_unseen_while_a_pool_stops() {
    explore(|| {
        let world = World::new(0, 1);
        let [ran, seen] = race(
            &world,
            [
                |w: &World| w.enter(0) == Entry::Run,
                |w| w.0.stop().0.contains(&0),
            ],
        );
        assert_eq!(ran, seen);
    });
}

/// An open pool of one slot, and slots that were taken before.
struct Pool(WorkerPool<usize, usize>, Vec<Slot<usize, usize>>);

const SERVER: usize = 9;

impl Pool {
    fn new(slots: usize) -> Arc<Self> {
        let pool = WorkerPool::new(1, 2, Settings::default());
        pool.set_server(SERVER);
        let admit = |number| {
            let on_death = || {
                Some(OnDeath {
                    to: None,
                    message: number,
                })
            };
            pool.admit(Kind::Uncounted, None, on_death, NOW).unwrap()
        };
        let slots = (0..slots).map(admit).collect();
        Arc::new(Pool(pool, slots))
    }

    fn lose(&self, number: usize) -> Option<usize> {
        let effects = self.0.lost(&self.1[number], NOW);
        assert_eq!(effects.send, None);
        effects.notify
    }
}

#[test]
fn what_comes_while_the_server_looks_is_seen_or_has_it_told_again() {
    explore(|| {
        let pool = Pool::new(2);
        assert_eq!(pool.lose(0), Some(SERVER));
        let [notified, seen] = race(
            &pool,
            [
                |k: &Pool| k.lose(1).map_or(0, |_server| 1),
                |k| k.0.take_work(NOW).notices.len(),
            ],
        );
        // Told twice at worst, and never not at all.
        assert!(seen == 2 || notified == 1, "{seen} seen");
        assert_eq!(pool.0.take_work(NOW).notices.len(), 2 - seen);
    });
}

#[test]
fn what_is_to_be_sent_if_a_task_dies_is_sent_once() {
    explore(|| {
        let pool = Pool::new(1);
        let _ = pool.0.enter(&pool.1[0], 0, false, 0, NOW);
        let ended = race(
            &pool,
            [
                |k: &Pool| k.0.leave(&k.1[0], TaskResult::Failed, NOW).1.notify,
                |k| k.0.ended(&k.1[0], 0, NOW).notify,
            ],
        );
        assert!(ended.contains(&Some(SERVER)));
        let messages = pool.0.take_work(NOW).notices.into_iter();
        let messages = messages.filter(|notice| matches!(notice, Notice::Message(_)));
        assert_eq!(messages.count(), 1);
    });
}
