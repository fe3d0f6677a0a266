use std::sync::{Arc, Barrier};
use std::thread;

use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{Candidates, Flight, NodeEvent, NodeStatus, Registry};

const HOUR: u64 = 3_600;

#[test]
fn a_name_is_one_node_also_for_threads_that_ask_at_the_same_time() {
    let registry = Registry::default();
    let barrier = Barrier::new(4);
    let all: Vec<_> = thread::scope(|scope| {
        let ask = || {
            barrier.wait();
            (0..500)
                .map(|i| registry.node(&format!("n{i}@h")))
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert_eq!(registry.len(), 500);
    for nodes in &all[1..] {
        assert!(nodes.iter().zip(&all[0]).all(|(a, b)| Arc::ptr_eq(a, b)));
    }
}

#[test]
fn a_node_nobody_contacted_is_up_and_down_wins_over_draining() {
    let registry = Registry::default();
    let node = registry.node("a@h");
    assert_eq!((node.name(), node.status()), ("a@h", NodeStatus::Up));
    assert!(node.drain() && !node.drain());
    assert_eq!(node.status(), NodeStatus::Draining);
    assert!(node.mark_down() && !node.mark_down());
    assert_eq!(node.status(), NodeStatus::Down);
    assert!(!node.is_up());
}

#[test]
fn a_node_that_comes_back_is_not_draining_but_one_that_was_never_down_stays_so() {
    let registry = Registry::default();
    let node = registry.node("a@h");
    node.drain();
    assert!(!node.mark_up());
    assert_eq!(node.status(), NodeStatus::Draining);
    node.mark_down();
    assert!(node.mark_up());
    assert_eq!(node.status(), NodeStatus::Up);
    node.drain();
    assert!(node.undrain() && !node.undrain());
    assert!(node.is_up());
}

#[test]
fn finding_a_node_does_not_make_it_known() {
    let registry = Registry::default();
    assert!(registry.find("rem-17@h").is_none());
    assert!(registry.is_empty());
    registry.node("a@h");
    assert!(registry.find("a@h").is_some());
}

#[test]
fn only_draining_makes_a_node_known_that_no_function_names() {
    let registry = Registry::default();
    for event in [NodeEvent::Up, NodeEvent::Down, NodeEvent::Undrain] {
        assert!(!registry.note("a@h", event));
        assert_eq!(registry.status("a@h"), NodeStatus::Up);
    }
    assert!(registry.is_empty());
    assert!(registry.note("a@h", NodeEvent::Drain));
    assert!(!registry.note("a@h", NodeEvent::Drain));
    assert_eq!(registry.status("a@h"), NodeStatus::Draining);
    assert!(registry.note("a@h", NodeEvent::Down));
    assert_eq!(registry.status("a@h"), NodeStatus::Down);
    assert!(registry.note("a@h", NodeEvent::Up));
    assert!(registry.note("a@h", NodeEvent::Drain) && registry.note("a@h", NodeEvent::Undrain));
    assert_eq!(registry.status("a@h"), NodeStatus::Up);
}

#[test]
fn statuses_lists_every_known_node() {
    let registry = Registry::default();
    registry.node("a@h").mark_down();
    registry.node("b@h").drain();
    registry.node("c@h");
    let mut statuses: Vec<_> = registry
        .statuses()
        .into_iter()
        .map(|(n, s)| (n.name().to_owned(), s))
        .collect();
    statuses.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("a@h", NodeStatus::Down),
        ("b@h", NodeStatus::Draining),
        ("c@h", NodeStatus::Up),
    ];
    assert!(statuses.iter().map(|(n, s)| (n.as_str(), *s)).eq(expected));
}

#[test]
fn candidates_keep_the_first_place_of_a_name_listed_twice() {
    let registry = Registry::default();
    let candidates = Candidates::new(&registry, ["b@h", "a@h", "b@h", "c@h", "a@h"]);
    let names: Vec<&str> = candidates.iter().map(|node| node.name()).collect();
    assert_eq!(names, ["b@h", "a@h", "c@h"]);
    assert_eq!(candidates.name(3), None);
    assert!(Candidates::new(&registry, []).is_empty());
}

#[test]
fn prune_forgets_only_nodes_that_nothing_refers_to_and_that_have_no_state() {
    let registry = Registry::default();
    let listed = Candidates::new(&registry, ["listed@h"]);
    let flight = Flight::start(registry.node("called@h"));
    registry.node("draining@h").drain();
    registry.node("down@h").mark_down();
    for i in 0..1_000 {
        registry.node(&format!("pod{i}@h"));
    }
    let before = registry.bytes();
    assert_eq!(registry.prune(Nanos::ZERO), 1_000);
    assert!(registry.bytes() < before / 10);
    assert_eq!(registry.len(), 4);
    drop((listed, flight));
    assert_eq!(registry.prune(Nanos::ZERO), 2);
    registry.node("draining@h").undrain();
    assert_eq!(registry.prune(Nanos::ZERO), 1);
    assert_eq!(
        registry.find("down@h").map(|node| node.status()),
        Some(NodeStatus::Down)
    );
}

#[test]
fn a_node_that_is_down_is_forgotten_an_hour_after_it_was_asked_for_last() {
    let registry = Registry::default();
    let at = Nanos::from_secs;
    registry.node("pod@h").mark_down();
    assert_eq!(registry.prune(at(10)), 0);
    registry.find("pod@h");
    assert_eq!(registry.prune(at(10 + HOUR)), 0);
    assert_eq!(registry.prune(at(9 + 2 * HOUR)), 0);
    assert_eq!(registry.prune(at(10 + 2 * HOUR)), 1);
    assert!(registry.node("pod@h").is_up());
}
