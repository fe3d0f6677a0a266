use std::sync::Arc;

use gen_api_core::call_table::{CallKey, CallTable};
use gen_api_core::clock::Nanos;

use super::{explore, race};

const NOW: Nanos = Nanos::ZERO;
const KEY: CallKey = CallKey(7, 1);

struct World(CallTable<u32>);

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self(CallTable::with_shape(1, 2)))
    }

    fn enter(&self) -> bool {
        self.0.enter(KEY, 1, |_| true)
    }

    fn revoke(&self) -> bool {
        self.0.revoke(KEY, NOW).is_some()
    }

    fn size(&self) -> (usize, usize) {
        self.0.size(|_| true)
    }
}

#[test]
fn a_call_that_is_revoked_is_named_or_never_begins() {
    explore(|| {
        let world = World::new();
        let [began, named] = race(&world, [World::enter, World::revoke]);
        assert_eq!(began, named);
        assert_eq!(world.size(), (0, 0));
    });
}

#[test]
fn a_call_revoked_twice_is_named_once_or_never_begins() {
    explore(|| {
        let world = World::new();
        let [began, first, second] = race(&world, [World::enter, World::revoke, World::revoke]);
        assert_eq!(began, first || second);
        assert!(!(first && second));
        assert_eq!(world.size().0, 0);
    });
}

#[test]
fn a_call_that_ends_meanwhile_leaves_no_row() {
    explore(|| {
        let world = World::new();
        let [began, named] = race(
            &world,
            [
                |w: &World| {
                    let began = w.enter();
                    w.0.leave(KEY);
                    began
                },
                World::revoke,
            ],
        );
        // Remembered only if it had ended.
        assert_eq!(world.size(), (0, usize::from(began && !named)));
    });
}

#[test]
fn a_look_for_the_dead_takes_no_living_one() {
    explore(|| {
        let world = World::new();
        let [began, _] = race(&world, [World::enter, |w| w.0.size(|_| true) == (9, 9)]);
        assert!(began && world.revoke());
    });
}
