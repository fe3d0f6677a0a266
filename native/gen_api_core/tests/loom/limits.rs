use std::sync::{Arc, Mutex};

use gen_api_core::clock::Nanos;
use gen_api_core::limiter::Caps;
use gen_api_core::limits::{Key, Limits, OnMissing, Scope, ScopeName, Spec, Verdict};

use super::{explore, race};

const NOW: Nanos = Nanos(0);

struct World {
    limits: Limits,
    plan: Mutex<Option<Arc<Scope>>>,
}

impl World {
    fn new(enabled: bool, specs: Vec<Spec>) -> Arc<Self> {
        let caps = Caps {
            shards: 1,
            max_keys: 8,
            max_entries: 8,
        };
        let limits = Limits::new(caps);
        limits.configure(enabled, specs);
        let plan = Mutex::default();
        Arc::new(Self { limits, plan })
    }

    fn scope(&self) -> Arc<Scope> {
        self.limits.scope("shop", "buy")
    }

    fn admits(&self) -> bool {
        let verdict = self
            .limits
            .check("shop", "buy", NOW, |_key| Some(b"ann".as_slice().into()));
        matches!(verdict, Verdict::Admitted)
    }

    fn current(&self, scope: &ScopeName) -> Vec<u32> {
        let statuses = self.limits.status(scope, &Key::UserId, b"ann", NOW);
        statuses.iter().map(|(_, status)| status.current).collect()
    }
}

fn own() -> ScopeName {
    Some(("shop".into(), "buy".into()))
}

fn limit(scope: ScopeName, max_requests: u32) -> Spec {
    Spec {
        scope,
        key: Key::UserId,
        max_requests,
        window_ms: 1_000,
        on_missing: OnMissing::Skip,
    }
}

#[test]
fn checks_beside_a_change_of_other_limits_keep_their_counts() {
    explore(|| {
        let world = World::new(true, vec![limit(None, 2)]);
        let admitted = race(
            &world,
            [
                |w| w.admits(),
                |w| {
                    w.limits
                        .configure(true, vec![limit(None, 2), limit(own(), 9)]);
                    false
                },
                |w| w.admits(),
            ],
        );
        assert_eq!(admitted, [true, false, true]);
        assert_eq!(world.current(&None), [2]);
        assert!(!world.admits());
    });
}

#[test]
fn a_limit_made_stricter_beside_checks_counts_what_was_admitted_before() {
    explore(|| {
        let world = World::new(true, vec![limit(None, 3)]);
        assert!(world.admits());
        let [first, _, second] = race(
            &world,
            [
                |w| w.admits(),
                |w| {
                    w.limits.configure(true, vec![limit(None, 1)]);
                    false
                },
                |w| w.admits(),
            ],
        );
        let admitted = 1 + u32::from(first) + u32::from(second);
        assert_eq!(world.current(&None), [admitted]);
        assert!(!world.admits());
    });
}

#[test]
fn whoever_has_seen_a_limit_is_told_by_the_plan_to_check() {
    for scope in [None, own()] {
        explore(move || {
            let world = World::new(true, vec![]);
            let plan = world.scope();
            *world.plan.lock().unwrap() = Some(Arc::clone(&plan));
            let configure: fn(&World) = if scope.is_none() {
                |w| w.limits.configure(true, vec![limit(None, 1)])
            } else {
                |w| w.limits.configure(true, vec![limit(own(), 1)])
            };
            race(
                &world,
                [configure, |w| {
                    let plan = w.plan.lock().unwrap().clone().unwrap();
                    let seen = w.current(&None).len() + w.current(&own()).len() > 0;
                    assert!(plan.is_limited() || !seen);
                }],
            );
            assert!(plan.is_limited());
        });
    }
}

#[test]
fn a_plan_says_all_the_while_to_check_when_limits_of_one_kind_replace_the_other() {
    let [to_own, to_global]: [fn(&World); 2] = [
        |w| w.limits.configure(true, vec![limit(own(), 1)]),
        |w| w.limits.configure(true, vec![limit(None, 1)]),
    ];
    for [before, after] in [[to_own, to_global], [to_global, to_own]] {
        explore(move || {
            let world = World::new(true, vec![]);
            *world.plan.lock().unwrap() = Some(world.scope());
            before(&world);
            race(
                &world,
                [after, |w| {
                    let plan = w.plan.lock().unwrap().clone().unwrap();
                    assert!(plan.is_limited());
                }],
            );
        });
    }
}

#[test]
fn a_plan_made_while_limits_change_knows_what_is_in_force() {
    explore(|| {
        let world = World::new(true, vec![]);
        let [_, made, also] = race(
            &world,
            [
                |w| {
                    w.limits.configure(true, vec![limit(own(), 1)]);
                    None
                },
                |w| Some(w.scope()),
                |w| Some(w.scope()),
            ],
        );
        let (made, also) = (made.unwrap(), also.unwrap());
        assert!(Arc::ptr_eq(&made, &also) && made.is_limited());
        world.limits.configure(false, vec![limit(own(), 1)]);
        assert!(!made.is_limited());
    });
}

#[test]
fn a_plan_made_while_unused_ones_are_forgotten_hears_of_later_changes() {
    explore(|| {
        let world = World::new(true, vec![]);
        // Held by no plan any more: the next change forgets it.
        drop(world.scope());
        let [_, plan, _] = race(
            &world,
            [
                |w| {
                    w.limits.configure(true, vec![]);
                    None
                },
                |w| Some(w.scope()),
                |w| {
                    // Dropped while the change looks at it.
                    w.scope();
                    None
                },
            ],
        );
        world.limits.configure(true, vec![limit(own(), 1)]);
        assert!(plan.unwrap().is_limited());
    });
}

#[test]
fn of_two_changes_at_once_limits_and_plans_follow_the_same() {
    explore(|| {
        let world = World::new(true, vec![]);
        let plan = world.scope();
        race(
            &world,
            [
                |w| w.limits.configure(true, vec![limit(None, 1)]),
                |w| {
                    w.limits
                        .configure(false, vec![limit(None, 1), limit(own(), 1)])
                },
                |w| w.limits.configure(true, vec![]),
            ],
        );
        let limited = !world.admits() || !world.admits();
        assert_eq!(plan.is_limited(), limited);
    });
}
