use std::sync::Arc;

use gen_api_core::clock::Nanos;
use gen_api_core::limiter::{Caps, Decision, Limit, Limiter, Rule, SlidingWindow};

use super::{explore, race};

/// The length of every window.
const WINDOW: u64 = 10;

/// Values of different shards, where there are two.
const EVEN: &[u8] = b"ann";
const ODD: &[u8] = b"bob";

struct World {
    limiter: Limiter,
    a: Limit,
    b: Limit,
}

impl World {
    fn new(caps: Caps, max_a: u32, max_b: u32) -> Arc<Self> {
        let limiter = Limiter::new(caps);
        let rule = |max| Rule::SlidingWindow(SlidingWindow::new(max, Nanos(WINDOW)).unwrap());
        let a = limiter.limit(b"a", rule(max_a));
        let b = limiter.limit(b"b", rule(max_b));
        Arc::new(Self { limiter, a, b })
    }

    fn admits(&self, charges: &[(&Limit, &[u8])], now: u64) -> bool {
        self.limiter.check(charges, Nanos(now)) == Decision::Admitted
    }

    fn admits_a(&self, value: &[u8], now: u64) -> bool {
        self.admits(&[(&self.a, value)], now)
    }

    fn current(&self, limit: &Limit, value: &[u8], now: u64) -> u32 {
        self.limiter.peek(limit, value, Nanos(now)).current
    }

    /// Windows and entries.
    fn held(&self) -> (usize, usize) {
        let stats = self.limiter.stats();
        (stats.windows, stats.entries)
    }

    fn sweep(&self, now: u64) {
        while self.limiter.sweep(Nanos(now), 8).more {}
    }

    /// All counters are back where they were: as much fits as in a new one.
    fn assert_empties(&self, now: u64, keys: usize, entries: usize) {
        self.sweep(now);
        assert_eq!(self.held(), (0, 0));
        for value in 0..keys {
            assert!(self.admits_a(&[value as u8], now), "key {value}");
        }
        for _ in keys..entries {
            assert!(self.admits(&[(&self.b, EVEN)], now));
        }
        assert_eq!(self.held().1, keys.max(entries));
    }
}

fn caps(shards: usize, max_keys: usize, max_entries: usize) -> Caps {
    Caps {
        shards,
        max_keys,
        max_entries,
    }
}

fn count(admitted: &[bool]) -> usize {
    admitted.iter().filter(|admitted| **admitted).count()
}

#[test]
fn as_many_as_the_limit_are_admitted_and_not_one_more() {
    explore(|| {
        let world = World::new(caps(1, 8, 8), 2, 1);
        let admitted = race(&world, [|w| w.admits_a(EVEN, 0); 3]);
        assert_eq!(count(&admitted), 2);
        assert_eq!(world.current(&world.a, EVEN, 0), 2);
        assert_eq!(world.held(), (1, 2));
    });
}

#[test]
fn several_limits_are_charged_all_or_none_in_whatever_order_they_are_named() {
    explore(|| {
        let world = World::new(caps(2, 8, 8), 2, 1);
        let [ab, ba, b] = race(
            &world,
            [
                |w| w.admits(&[(&w.a, EVEN), (&w.b, ODD)], 0),
                |w| w.admits(&[(&w.b, ODD), (&w.a, EVEN)], 0),
                |w| w.admits(&[(&w.b, ODD)], 0),
            ],
        );
        assert_eq!(count(&[ab, ba, b]), 1);
        let both = count(&[ab, ba]);
        assert_eq!(world.current(&world.a, EVEN, 0) as usize, both);
        assert_eq!(world.current(&world.b, ODD, 0), 1);
        assert_eq!(world.held(), (1 + both, 1 + both));
    });
}

#[test]
fn a_sweep_beside_checks_forgets_no_request_and_lets_nobody_in_twice() {
    explore(|| {
        let world = World::new(caps(1, 1, 1), 1, 1);
        assert!(world.admits_a(EVEN, 0));
        let admitted = race(
            &world,
            [
                |w| {
                    w.sweep(WINDOW);
                    false
                },
                |w| w.admits_a(EVEN, WINDOW),
                // By a clock that is behind.
                |w| w.admits_a(EVEN, WINDOW - 1),
            ],
        );
        // There is room for it only when the first one has expired.
        assert_eq!(count(&admitted), 1);
        assert_eq!(world.held(), (1, 1));
        assert!(!world.admits_a(EVEN, 2 * WINDOW - 1));
        world.assert_empties(2 * WINDOW, 1, 1);
    });
}

#[test]
fn a_window_in_which_a_request_counts_survives_sweeps() {
    explore(|| {
        let world = World::new(caps(1, 8, 8), 1, 1);
        assert!(world.admits_a(EVEN, 0) && world.admits_a(ODD, 5));
        let admitted = race(
            &world,
            [
                |w| {
                    w.sweep(WINDOW + 4);
                    false
                },
                |w| w.admits_a(ODD, WINDOW + 4),
                |w| w.admits_a(ODD, 6),
            ],
        );
        assert_eq!(count(&admitted), 0);
        assert_eq!(world.current(&world.a, ODD, WINDOW + 4), 1);
        world.sweep(WINDOW + 4);
        assert_eq!(world.held(), (1, 1));
    });
}

#[test]
fn there_are_never_more_windows_than_may_be_and_all_places_come_back() {
    explore(|| {
        let world = World::new(caps(2, 2, 16), 1, 1);
        assert!(world.admits_a(b"old", 0));
        let admitted = race(
            &world,
            [
                |w| w.admits_a(EVEN, WINDOW - 1),
                |w| w.admits_a(ODD, WINDOW - 1),
                |w| {
                    w.sweep(WINDOW);
                    false
                },
            ],
        );
        assert!((1..=2).contains(&count(&admitted)));
        world.sweep(WINDOW);
        assert_eq!(world.held(), (count(&admitted), count(&admitted)));
        world.assert_empties(2 * WINDOW, 2, 2);
    });
}

#[test]
fn of_those_who_want_the_last_window_one_gets_it_and_the_others_are_counted() {
    explore(|| {
        let world = World::new(caps(2, 1, 16), 1, 1);
        let admitted = race(
            &world,
            [
                |w| w.admits_a(EVEN, 0),
                |w| w.admits_a(ODD, 0),
                |w| w.admits_a(b"new", 0),
            ],
        );
        assert_eq!(count(&admitted), 1);
        assert_eq!(world.held(), (1, 1));
        assert_eq!(world.limiter.stats().overflowed, 2);
        world.assert_empties(WINDOW, 1, 1);
    });
}

#[test]
fn a_check_that_finds_no_room_for_one_limit_gives_back_what_it_had_for_the_other() {
    explore(|| {
        let world = World::new(caps(2, 1, 16), 1, 2);
        let admitted = race(
            &world,
            [
                |w| w.admits(&[(&w.b, EVEN), (&w.a, b"new")], 0),
                |w| w.admits_a(ODD, 0),
            ],
        );
        assert_eq!(count(&admitted), 1);
        let windows = if admitted[0] { 2 } else { 1 };
        assert_eq!(world.held(), (windows, windows));
        assert_eq!(world.limiter.stats().overflowed, 1);
        world.assert_empties(WINDOW, 1, 2);
    });
}

#[test]
fn there_are_never_more_entries_than_may_be_and_all_come_back() {
    explore(|| {
        let world = World::new(caps(2, 8, 2), 8, 8);
        let admitted = race(
            &world,
            [
                |w| w.admits_a(EVEN, 0),
                |w| w.admits_a(ODD, 0),
                |w| w.admits(&[(&w.a, EVEN), (&w.b, ODD)], 0),
            ],
        );
        let entries = count(&admitted) + count(&admitted[2..]);
        assert!(entries <= 2);
        assert_eq!(world.held().1, entries);
        for _ in entries..2 {
            assert!(world.admits_a(EVEN, 0));
        }
        assert!(!world.admits_a(EVEN, 0));
        world.assert_empties(WINDOW, 2, 2);
    });
}

#[test]
fn entries_that_expire_in_one_shard_are_there_for_the_others() {
    explore(|| {
        let world = World::new(caps(2, 8, 6), 4, 8);
        assert!((0..4).all(|_| world.admits_a(EVEN, 0)));
        let admitted = race(
            &world,
            [|w| w.admits_a(EVEN, WINDOW), |w| w.admits_a(ODD, WINDOW)],
        );
        assert_eq!(admitted, [true, true]);
        assert_eq!(world.held(), (2, 2));
        world.assert_empties(2 * WINDOW, 2, 6);
    });
}

#[test]
fn a_clear_and_a_reset_beside_checks_leave_exact_counters() {
    explore(|| {
        let world = World::new(caps(1, 1, 2), 2, 2);
        assert!(world.admits_a(EVEN, 0));
        let [admitted, ..] = race(
            &world,
            [
                |w| w.admits_a(EVEN, 0),
                |w| w.limiter.clear() > 0,
                |w| w.limiter.reset(&w.a, EVEN),
            ],
        );
        let current = world.current(&world.a, EVEN, 0) as usize;
        assert!(current <= usize::from(admitted));
        assert_eq!(world.held(), (current, current));
        world.assert_empties(WINDOW, 1, 2);
    });
}

#[test]
fn a_limit_forgotten_beside_a_check_leaves_nothing_behind() {
    explore(|| {
        let world = World::new(caps(1, 1, 2), 2, 1);
        assert!(world.admits_a(EVEN, 0));
        race(
            &world,
            [
                |w| w.admits_a(EVEN, 0),
                |w| w.limiter.forget(w.a.id()),
                |w| {
                    w.sweep(0);
                    true
                },
            ],
        );
        world.sweep(0);
        assert_eq!(world.held(), (0, 0));
        // Another limit of that name starts over.
        let again = world.limiter.limit(b"a", world.a.rule());
        assert_eq!(world.current(&again, EVEN, 0), 0);
        assert_ne!(again.id(), world.a.id());
    });
}
