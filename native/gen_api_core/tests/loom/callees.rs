use std::sync::Arc;

use gen_api_core::callees::{Callee, Callees, Key};
use gen_api_core::clock::Nanos;

use super::{explore, race};

const NOW: Nanos = Nanos::ZERO;
const KEY: Key = Key(7, 1);

struct World(Arc<Callees<u32>>);

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self(Arc::new(Callees::with_shape(1, 2))))
    }

    fn enter(&self) -> Option<Callee<u32>> {
        self.0.enter(KEY, 1)
    }
}

#[test]
fn a_call_that_is_revoked_is_named_or_never_begins() {
    explore(|| {
        let world = World::new();
        let [began, named] = race(
            &world,
            [
                |w: &World| w.enter().map(std::mem::forget).is_some(),
                |w| w.0.revoke(KEY, NOW).is_some(),
            ],
        );
        assert_eq!(began, named);
        assert_eq!(world.0.size(), (usize::from(began), 0));
    });
}

#[test]
fn a_call_revoked_twice_is_named_by_both_or_never_begins() {
    explore(|| {
        let world = World::new();
        let [began, first, second] = race(
            &world,
            [
                |w: &World| w.enter().map(std::mem::forget).is_some(),
                |w| w.0.revoke(KEY, NOW).is_some(),
                |w| w.0.revoke(KEY, NOW).is_some(),
            ],
        );
        assert_eq!(began, first && second);
    });
}

#[test]
fn a_call_that_ends_meanwhile_leaves_no_row() {
    explore(|| {
        let world = World::new();
        let [_, named] = race(
            &world,
            [
                |w: &World| {
                    drop(w.enter());
                    false
                },
                |w| w.0.revoke(KEY, NOW).is_some(),
            ],
        );
        let (running, revoked) = world.0.size();
        assert_eq!(running, 0);
        // Remembered only if it came first and the call did not, or came last.
        assert!(revoked == 0 || !named);
    });
}
