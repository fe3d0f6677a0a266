use std::sync::Arc;

use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{Candidates, Mode, Selector, StickyLimits};

use super::{explore, race};

const TTL: u64 = 100;

/// The first choice of the two nodes for the value `ann`.
const FIRST: usize = 0;

struct World {
    selector: Selector,
    candidates: Candidates,
    mode: Mode,
}

impl World {
    /// With as many shards as `shaped_for` entries make.
    fn new(shaped_for: usize, max_entries: usize) -> Arc<Self> {
        let limits = |max_entries| StickyLimits {
            ttl: Nanos(TTL),
            max_entries,
        };
        let selector = Selector::new(limits(shaped_for));
        selector.sticky().set_limits(limits(max_entries));
        let candidates = Candidates::new(selector.registry(), ["a@h", "b@h"]);
        let function: Arc<[u8]> = Arc::from(b"f".as_slice());
        Arc::new(Self {
            selector,
            candidates,
            mode: Mode::Sticky { function },
        })
    }

    fn pick(&self, value: &[u8], now: u64) -> Option<usize> {
        self.pick_of(value, now, |_| true)
    }

    fn pick_of(&self, value: &[u8], now: u64, usable: fn(usize) -> bool) -> Option<usize> {
        let key = Some(value);
        self.selector
            .pick(&self.candidates, &self.mode, key, Nanos(now), usable)
    }

    /// The count is that of the entries, and all places come back.
    fn assert_exact(&self, max_entries: usize) {
        let sticky = self.selector.sticky();
        let entries = sticky.len();
        assert!(entries <= max_entries, "{entries} entries");
        assert_eq!(sticky.sweep(Nanos(10 * TTL), 100), entries);
        assert_eq!(sticky.len(), 0);
        for value in 0..max_entries {
            self.pick(&[value as u8], 10 * TTL);
        }
        assert_eq!(sticky.len(), max_entries);
    }
}

#[test]
fn of_callers_who_see_different_nodes_those_who_have_a_choice_follow() {
    explore(|| {
        let world = World::new(8, 8);
        let picked = race(
            &world,
            [
                |w| w.pick(b"ann", 1),
                |w| w.pick_of(b"ann", 1, |index| index != FIRST),
                |w| w.pick(b"ann", 1),
            ],
        );
        // The one without a choice changes what the others chose, if they came first.
        assert_eq!(picked[1], Some(1 - FIRST));
        assert_eq!(world.pick(b"ann", 2), Some(1 - FIRST));
        world.assert_exact(8);
    });
}

#[test]
fn callers_who_see_the_same_nodes_agree() {
    explore(|| {
        let world = World::new(8, 8);
        assert_eq!(world.pick(b"ann", 0), Some(FIRST));
        // What was remembered has become unusable for all of them.
        let picked = race(
            &world,
            [|w| w.pick_of(b"ann", 1, |index| index != FIRST); 3],
        );
        assert_eq!(picked, [Some(1 - FIRST); 3]);
        assert_eq!(world.pick(b"ann", 2), Some(1 - FIRST));
        world.assert_exact(8);
    });
}

#[test]
fn a_full_table_stays_full_and_no_fuller() {
    explore(|| {
        let world = World::new(1, 1);
        world.pick(b"old", 0);
        race(
            &world,
            [
                |w| w.pick(b"ann", 1),
                |w| w.pick(b"bob", 1),
                |w| w.pick(b"old", 1),
            ],
        );
        world.assert_exact(1);
    });
}

#[test]
fn of_those_who_want_the_last_place_in_different_shards_one_gets_it() {
    explore(|| {
        let world = World::new(5_000, 2);
        world.pick(b"old", 0);
        race(&world, [|w| w.pick(b"ann", 1), |w| w.pick(b"bob", 1)]);
        assert_eq!(world.selector.sticky().len(), 2);
        world.assert_exact(2);
    });
}

#[test]
fn a_full_table_of_many_shards_gives_up_one_entry_for_each_new_one() {
    explore(|| {
        let world = World::new(5_000, 2);
        world.pick(b"old", 0);
        world.pick(b"older", 0);
        race(&world, [|w| w.pick(b"ann", 1), |w| w.pick(b"bob", 1)]);
        world.assert_exact(2);
    });
}

#[test]
fn a_full_table_gives_up_the_entry_used_least_recently_also_when_it_was_used_just_now() {
    explore(|| {
        let world = World::new(5_000, 2);
        world.pick(b"bob", 0);
        world.pick(b"old", 1);
        race(&world, [|w| w.pick(b"bob", 2), |w| w.pick(b"ann", 3)]);
        let sticky = world.selector.sticky();
        assert_eq!((sticky.sweep(Nanos(TTL + 1), 8), sticky.len()), (0, 2));
    });
}

#[test]
fn callers_who_make_room_for_one_value_count_it_once() {
    explore(|| {
        let world = World::new(2, 2);
        world.pick(b"old", 0);
        world.pick(b"older", 0);
        race(&world, [|w| w.pick(b"ann", 1), |w| w.pick(b"ann", 1)]);
        world.assert_exact(2);
    });
}

#[test]
fn a_cleanup_beside_a_new_entry_of_another_shard_keeps_the_count() {
    explore(|| {
        let world = World::new(5_000, 2);
        world.pick(b"old", 0);
        race(
            &world,
            [
                |w| assert!(w.pick(b"ann", TTL).is_some()),
                |w| assert_eq!(w.selector.sticky().sweep(Nanos(TTL), 8), 1),
            ],
        );
        assert_eq!(world.selector.sticky().len(), 1);
        world.assert_exact(2);
    });
}

#[test]
fn a_cleanup_beside_uses_removes_nothing_that_was_just_used() {
    explore(|| {
        let world = World::new(2, 2);
        world.pick(b"ann", 0);
        world.pick(b"bob", TTL - 1);
        race(
            &world,
            [
                |w| w.selector.sticky().sweep(Nanos(TTL), 8),
                |w| w.pick(b"bob", TTL).map_or(0, |_| 0),
                |w| w.pick(b"ann", TTL - 1).map_or(0, |_| 0),
            ],
        );
        assert!((1..=2).contains(&world.selector.sticky().len()));
        world.assert_exact(2);
    });
}
