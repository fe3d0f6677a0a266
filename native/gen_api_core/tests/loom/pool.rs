use std::sync::Arc;

use gen_api_core::breaker::Settings;
use gen_api_core::clock::Nanos;
use gen_api_core::pool::{Admission, Cause, End, Entry, Kind, Pool, Ticket, Was};

use super::{explore, race};

const NOW: Nanos = Nanos::ZERO;

/// A pool of one slot, and tickets that were taken before.
struct World(Pool<usize>, Vec<Arc<Ticket<usize>>>);

impl World {
    fn new(max_waiting: u32, tickets: usize) -> Arc<Self> {
        let pool = Pool::new(1, max_waiting, Settings::default());
        let tickets = (0..tickets).map(|_| admit(&pool).unwrap()).collect();
        Arc::new(World(pool, tickets))
    }

    fn enter(&self, number: usize) -> Entry {
        self.0.enter(&self.1[number], number, NOW).0
    }

    fn finish(&self, number: usize) -> (Was, Option<usize>) {
        let finish = self.0.finish(&self.1[number], End::Returned, NOW);
        (finish.was, finish.wake)
    }

    fn counts(&self) -> (u32, u32) {
        let status = self.0.status(NOW);
        (status.running, status.waiting)
    }
}

fn admit(pool: &Pool<usize>) -> Option<Arc<Ticket<usize>>> {
    match pool.admit(Kind::Uncounted, None, NOW) {
        Admission::Accepted(ticket) => Some(ticket),
        Admission::Full => None,
        Admission::CircuitOpen => panic!("nothing fails"),
    }
}

#[test]
fn of_three_one_runs_one_waits_and_one_is_refused() {
    explore(|| {
        let world = World::new(1, 0);
        let come = |w: &World| admit(&w.0).map(|ticket| w.0.enter(&ticket, 0, NOW).0);
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
        let ticket = came[1].as_ref().unwrap();
        assert_eq!(world.counts(), (1, 0));
        assert_eq!(world.0.enter(ticket, 1, NOW).0, Entry::Run);
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
        assert_eq!(first.0, Was::Running);
        assert_eq!(second.0, Was::NotBegun);
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
        assert!(ends.contains(&Was::Running) && ends.contains(&Was::Ended));
        assert_eq!(world.counts(), (0, 0));
        assert_eq!(world.0.status(NOW).ended, 1);
    });
}

#[test]
fn a_task_that_is_doomed_is_named_or_never_begins() {
    explore(|| {
        let world = World::new(0, 1);
        let [ran, doomed] = race(
            &world,
            [
                |w: &World| w.enter(0) == Entry::Run,
                |w| w.0.doom(&w.1[0], Cause::OwnerDied, NOW).is_none(),
            ],
        );
        assert_eq!(ran, doomed);
        assert_eq!(world.0.doomed(NOW).0.contains(&0), doomed);
        world.finish(0);
        assert_eq!(world.0.doomed(NOW).0, []);
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
