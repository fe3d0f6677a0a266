use std::sync::Arc;

use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{
    CandidateSet, Candidates, Cursor, Cursors, Flight, Mode, Node, NodeStatus, Registry, Selector,
    SetWeights, StickyLimits,
};

use super::{explore, race};

/// Where a cursor is set back.
const SET_BACK: u64 = 1 << 63;

#[test]
fn as_many_turns_as_nodes_visit_each_once_also_where_the_cursor_is_set_back() {
    for start in [0, 7, SET_BACK - 2, SET_BACK - 1, SET_BACK] {
        explore(move || {
            let cursor = Arc::new(Cursor::starting_at(start));
            let mut turns = race(&cursor, [|cursor: &Cursor| cursor.turn(3); 3]);
            turns.sort_unstable();
            assert_eq!(turns, [0, 1, 2]);
            let mut next = [(); 3].map(|()| cursor.turn(3));
            next.sort_unstable();
            assert_eq!(next, [0, 1, 2]);
        });
    }
}

#[test]
fn members_are_seen_as_they_were_or_as_they_are_with_weights_of_their_own() {
    struct World(Registry, CandidateSet<char>, SetWeights);
    fn look(w: &World) -> usize {
        let members = w.1.load();
        let count = members.candidates().len();
        assert_eq!(members.payloads(), &['a', 'b', 'c'][..count]);
        let prepared = w.2.prepared(&members);
        let Mode::Weighted(weights) = prepared.mode() else {
            panic!("another mode");
        };
        let each: Vec<u32> = (0..4).map(|index| weights.get(index)).collect();
        assert_eq!(each[..count], [7, 1, 1][..count]);
        assert_eq!(each[count..], [0, 0, 0, 0][count..]);
        count
    }
    fn put(w: &World, count: usize) {
        let members = ["a@h", "b@h", "c@h"].map(String::from).into_iter();
        w.1.put(&w.0, members.zip(['a', 'b', 'c']).take(count));
    }
    explore(|| {
        let weights = SetWeights::new([("a@h".to_owned(), 7)].into());
        let world = World(Registry::default(), CandidateSet::default(), weights);
        put(&world, 1);
        let world = Arc::new(world);
        let looks: [fn(&World) -> Vec<usize>; 3] = [
            |w| vec![look(w), look(w)],
            |w| {
                put(w, 3);
                vec![look(w)]
            },
            |w| vec![look(w)],
        ];
        let [seen, own, other] = race(&world, looks);
        assert!(matches!(seen[..], [1, 1] | [1, 3] | [3, 3]), "{seen:?}");
        assert_eq!(own, [3]);
        assert!(other == [1] || other == [3]);
        assert_eq!(look(&world), 3);
    });
}

#[test]
fn of_changes_of_the_members_none_is_lost() {
    struct World(Registry, CandidateSet<()>);
    fn put(w: &World, names: &[&str]) -> bool {
        w.1.put(&w.0, names.iter().map(|name| ((*name).to_owned(), ())))
    }
    explore(|| {
        let world = Arc::new(World(Registry::default(), CandidateSet::default()));
        let puts: [fn(&World) -> bool; 2] = [|w| put(w, &["a@h"]), |w| put(w, &["b@h", "c@h"])];
        assert_eq!(race(&world, puts), [true, true]);
        let members = world.1.load();
        let names: Vec<_> = members
            .candidates()
            .iter()
            .map(|node| node.name())
            .collect();
        assert!(names == ["a@h"] || names == ["b@h", "c@h"], "{names:?}");
    });
}

#[test]
fn picks_in_turn_visit_each_node_once() {
    struct World(Selector, Candidates, Mode);
    explore(|| {
        let selector = Selector::new(StickyLimits::default());
        let candidates = Candidates::new(selector.registry(), ["a@h", "b@h"]);
        let mode = Mode::RoundRobin(selector.cursor(b"f"));
        let world = Arc::new(World(selector, candidates, mode));
        let pick = |w: &World| w.0.pick(&w.1, &w.2, None, Nanos::ZERO, |_| true);
        let mut picked = race(&world, [pick; 2]);
        picked.sort_unstable();
        assert_eq!(picked, [Some(0), Some(1)]);
    });
}

#[test]
fn a_function_has_one_cursor_whoever_asks_first() {
    explore(|| {
        let cursors = Arc::new(Cursors::new(8));
        let [one, other] = race(&cursors, [|cursors: &Cursors| cursors.cursor(b"f"); 2]);
        assert!(Arc::ptr_eq(&one, &other));
    });
}

#[test]
fn a_call_ends_once_whoever_ends_it() {
    explore(|| {
        let node = Registry::default().node("a@h");
        let flight = Arc::new(Flight::start(Arc::clone(&node)));
        let counted = race(
            &flight,
            [
                |flight: &Flight| {
                    flight.finish();
                    0
                },
                |flight| {
                    flight.finish();
                    0
                },
                |flight| {
                    let other = Flight::start(Arc::clone(flight.node()));
                    let counted = other.node().in_flight();
                    drop(other);
                    counted
                },
            ],
        );
        assert!((1..=2).contains(&counted[2]));
        drop(flight);
        assert_eq!(node.in_flight(), 0);
    });
}

#[test]
fn of_those_who_see_a_node_change_one_reports_it() {
    explore(|| {
        let node = Registry::default().node("a@h");
        let reported = race(
            &node,
            [
                |node: &Node| (node.mark_down(), false),
                |node| (node.mark_down(), false),
                |node| (false, node.mark_up()),
            ],
        );
        let downs = reported.iter().filter(|(down, _)| *down).count();
        let ups = reported.iter().filter(|(_, up)| *up).count();
        // Down and up take turns, down first.
        assert!(downs == 1 + ups || downs == ups);
        assert_eq!(node.is_up(), downs == ups);
    });
}

#[test]
fn draining_a_node_is_lost_to_nothing_but_its_return() {
    explore(|| {
        let node = Registry::default().node("a@h");
        let [drained, _, returned] = race(
            &node,
            [
                |node: &Node| node.drain(),
                |node| node.mark_down(),
                |node| node.mark_up(),
            ],
        );
        assert!(drained);
        node.mark_up();
        assert_ne!(node.status(), NodeStatus::Down);
        // It returned from down once; what was asked before that is over.
        assert!(returned || node.is_up());
    });
}

#[test]
fn a_name_stands_for_one_node_while_anyone_holds_it() {
    explore(|| {
        let registry = Arc::new(Registry::default());
        // Held by nobody: pruning forgets it.
        registry.node("a@h");
        let [one, other, _] = race(
            &registry,
            [
                |registry: &Registry| Some(registry.node("a@h")),
                |registry| Some(registry.node("a@h")),
                |registry| {
                    registry.prune(Nanos(1));
                    None
                },
            ],
        );
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        assert!(Arc::ptr_eq(&one, &registry.node("a@h")));
        assert_eq!(registry.len(), 1);
    });
}
