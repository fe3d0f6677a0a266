use std::sync::Arc;

use gen_api_core::breaker::{Outcome, Settings, State, Transition};
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{CallStats, CallStatsTable, Node, Registry};
use gen_api_core::retry::{Allowance, Budget};

use super::{explore, race};

struct World {
    call_stats: CallStatsTable,
    stats: Arc<CallStats>,
    node: Arc<Node>,
}

fn world(threshold: u32) -> Arc<World> {
    let call_stats = CallStatsTable::default();
    call_stats.configure(Some(settings(threshold)), Nanos::ZERO);
    Arc::new(World {
        stats: call_stats.of_function(["books", "find", "1"]),
        call_stats,
        node: Registry::default().node("a@h"),
    })
}

fn settings(threshold: u32) -> Settings {
    Settings {
        threshold,
        ..Settings::default()
    }
}

fn fail(world: &World) -> Transition {
    let now = || Nanos::ZERO;
    world
        .stats
        .leave(&world.node, None, Outcome::Failure, None, now)
}

#[test]
fn of_first_failures_that_meet_each_counts_in_the_one_circuit() {
    explore(|| {
        let world = world(2);
        let mut told = race(&world, [fail; 2]);
        told.sort_by_key(|transition| *transition != Transition::None);
        let opened = Transition::Opened { failures: 2 };
        assert_eq!(told, [Transition::None, opened]);
        assert_eq!(world.stats.circuits().all().len(), 1);
    });
}

#[test]
fn a_circuit_made_while_circuits_are_switched_off_does_not_outlive_that() {
    explore(|| {
        let world = world(5);
        let off = |world: &World| {
            world.call_stats.configure(None, Nanos::ZERO);
            Transition::None
        };
        race(&world, [fail, off]);
        assert!(!world.stats.circuits().any());
        assert!(world.stats.circuits().all().is_empty());
    });
}

#[test]
fn a_circuit_that_is_swept_away_while_a_call_fails_is_whole_or_gone() {
    explore(|| {
        let world = world(1);
        fail(&world);
        let later = |world: &World| {
            world.call_stats.sweep(Nanos::from_secs(1_000));
            Transition::None
        };
        race(&world, [fail, later]);
        let circuits = world.stats.circuits();
        assert_eq!(circuits.any(), !circuits.all().is_empty());
    });
}

#[test]
fn a_circuit_that_opens_while_others_are_swept_is_heeded() {
    explore(|| {
        let world = world(1);
        let sweep = |world: &World| {
            world.call_stats.sweep(Nanos::from_secs(1));
            Transition::None
        };
        race(&world, [fail, sweep]);
        let view = world.stats.circuits().view(|| Nanos::from_secs(1));
        let open = world
            .stats
            .circuits()
            .all()
            .iter()
            .any(|circuit| !matches!(circuit.state(Nanos::from_secs(1)), State::Closed));
        assert_eq!(view.allows(Some(&world.node)), !open);
    });
}

#[test]
fn the_last_retry_of_a_budget_is_made_once() {
    explore(|| {
        let budget = Arc::new(Budget::default());
        let retry = |budget: &Budget| {
            budget.request(Nanos::ZERO);
            let allowance = Allowance {
                ratio: 0.0,
                free: 1,
            };
            budget.retry(Nanos::ZERO, allowance)
        };
        let granted = race(&budget, [retry; 2]);
        assert_eq!(granted.iter().filter(|granted| **granted).count(), 1);
    });
}

#[test]
fn requests_that_begin_a_second_together_are_both_counted() {
    explore(|| {
        let budget = Arc::new(Budget::default());
        let request = |budget: &Budget| budget.request(Nanos::from_secs(7));
        race(&budget, [request; 2]);
        let half = Allowance {
            ratio: 0.5,
            free: 0,
        };
        assert!(budget.retry(Nanos::from_secs(7), half));
        assert!(!budget.retry(Nanos::from_secs(7), half));
    });
}
