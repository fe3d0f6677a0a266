//! Circuits of functions, made when there is cause and dropped when there is none. The breaker itself is tested
//! in `breaker`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use gen_api_core::breaker::{Caller, Outcome, Settings, State, Transition};
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{
    CallStats, CallerKind, Candidates, Entry, Flight, Mode, Node, Obstacle, Rng, Selector,
    StickyLimits, Ticket, Unavailable, MAX_CIRCUITS,
};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier};

const NAME: [&str; 3] = ["books", "find", "1.0.0"];
const COOLDOWN: Nanos = Nanos::from_secs(30);

fn settings() -> Settings {
    Settings {
        threshold: 3,
        cooldown: COOLDOWN,
        ..Settings::default()
    }
}

fn selector() -> Selector {
    let selector = Selector::new(StickyLimits::default());
    assert!(selector
        .call_stats()
        .configure(Some(settings()), Nanos::ZERO)
        .is_empty());
    selector
}

fn secs(secs: u64) -> Nanos {
    Nanos::from_secs(secs)
}

/// One call from begin to end; `None` when it was refused.
fn call(stats: &CallStats, node: &Arc<Node>, outcome: Outcome, now: Nanos) -> Option<Transition> {
    match stats.circuits().enter(node, || now) {
        Entry::Refused => None,
        Entry::Free => Some(stats.leave(node, None, outcome, None, || now)),
        Entry::Ticket(ticket) => Some(stats.leave(node, Some(&ticket), outcome, None, || now)),
    }
}

fn fail(stats: &CallStats, node: &Arc<Node>, now: Nanos) -> Option<Transition> {
    call(stats, node, Outcome::Failure, now)
}

fn open(stats: &CallStats, node: &Arc<Node>, now: Nanos) {
    assert_eq!(fail(stats, node, now), Some(Transition::None));
    assert_eq!(fail(stats, node, now), Some(Transition::None));
    assert_eq!(
        fail(stats, node, now),
        Some(Transition::Opened { failures: 3 })
    );
}

fn ticket(stats: &CallStats, node: &Arc<Node>, now: Nanos) -> Ticket {
    match stats.circuits().enter(node, || now) {
        Entry::Ticket(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_choice_passes_over_a_node_whose_circuit_is_open_in_every_mode() {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    let candidates = Candidates::new(selector.registry(), ["a@h", "b@h", "c@h"]);
    let modes = [
        Mode::Random,
        Mode::Rendezvous,
        Mode::RoundRobin(selector.cursor(b"f")),
        Mode::Sticky {
            function: Arc::from(&b"f"[..]),
        },
        Mode::LeastBusy,
    ];
    let key = Some(&b"user_1"[..]);
    let pick = |mode: &Mode, now| {
        let view = stats.circuits().view(|| now);
        selector.pick(&candidates, mode, key, now, |i| {
            view.allows(candidates.get(i))
        })
    };
    let first = pick(&Mode::Rendezvous, secs(1)).unwrap();
    open(&stats, candidates.get(first).unwrap(), secs(1));
    for mode in &modes {
        for _ in 0..50 {
            assert_ne!(pick(mode, secs(2)), Some(first), "{mode:?}");
        }
    }
    // Its turn to be probed: the hash modes send it there as before.
    assert_eq!(pick(&Mode::Rendezvous, secs(32)), Some(first));
    let probe = ticket(&stats, candidates.get(first).unwrap(), secs(32));
    assert_ne!(
        pick(&Mode::Rendezvous, secs(32)),
        Some(first),
        "one probe at a time"
    );
    let node = candidates.get(first).unwrap();
    let closed = stats.leave(node, Some(&probe), Outcome::Success, None, || secs(33));
    assert_eq!(closed, Transition::Closed);
    assert_eq!(pick(&Mode::Rendezvous, secs(33)), Some(first));

    for node in candidates.iter() {
        open(&stats, node, secs(40));
    }
    for mode in &modes {
        assert_eq!(pick(mode, secs(41)), None, "{mode:?}");
        let view = stats.circuits().view(|| secs(41));
        let usable = |i| view.allows(candidates.get(i));
        let all = (0..3).map(|i| (i, Obstacle::CircuitOpen)).collect();
        assert_eq!(
            selector.unavailable(&candidates, mode, usable),
            Unavailable::AllUnavailable(all)
        );
    }
}

#[test]
fn each_function_has_its_own_circuit_to_a_node() {
    let selector = selector();
    let node = selector.registry().node("a@h");
    let stats = selector.call_stats().of_function(NAME);
    open(&stats, &node, secs(1));
    for other in [
        ["books", "find", "2.0.0"],
        ["books", "buy", "1.0.0"],
        ["shop", "find", "1.0.0"],
    ] {
        let other = selector.call_stats().of_function(other);
        assert_eq!(
            call(&other, &node, Outcome::Success, secs(1)),
            Some(Transition::None)
        );
    }
    assert_eq!(fail(&stats, &node, secs(1)), None);
}

#[test]
fn failures_that_are_less_than_half_of_the_calls_do_not_open_it_whenever_the_calls_began() {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    let node = selector.registry().node("a@h");
    // All of them began before there was a circuit.
    let outcomes = [Outcome::Success, Outcome::Failure];
    for outcome in outcomes.into_iter().flat_map(|outcome| [outcome; 4]) {
        let told = stats.leave(&node, None, outcome, None, || secs(1));
        let last = stats.circuits().all()[0].failures(secs(1)) == 4;
        assert_eq!(told != Transition::None, last);
    }
    // And this one counts no more.
    assert_eq!(
        stats.leave(&node, None, Outcome::Success, None, || secs(3)),
        Transition::None
    );
    assert_eq!(fail(&stats, &node, secs(3)), None);
}

#[test]
fn a_probe_that_nobody_ends_is_given_back() {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    let node = selector.registry().node("a@h");
    open(&stats, &node, secs(0));
    let probe = ticket(&stats, &node, secs(31));
    assert!(matches!(
        stats.circuits().enter(&node, || secs(31)),
        Entry::Refused
    ));
    probe.give_back(|| secs(31));
    let probe = ticket(&stats, &node, secs(32));
    let opened = stats.leave(&node, Some(&probe), Outcome::Failure, None, || secs(33));
    assert_eq!(opened, Transition::Opened { failures: 4 });
    // Its end was told: no second word counts.
    probe.give_back(|| secs(33));
    assert_eq!(
        stats.leave(&node, Some(&probe), Outcome::Success, None, || secs(33)),
        Transition::None
    );
    assert_eq!(fail(&stats, &node, secs(62)), None);
    assert_eq!(
        call(&stats, &node, Outcome::Success, secs(64)),
        Some(Transition::Closed)
    );
}

#[test]
fn calls_are_counted_from_the_first_one_on() {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    let node = selector.registry().node("a@h");
    for _ in 0..10 {
        call(&stats, &node, Outcome::Success, secs(1));
    }
    for _ in 0..9 {
        assert_eq!(fail(&stats, &node, secs(2)), Some(Transition::None));
    }
    let opened = Some(Transition::Opened { failures: 10 });
    assert_eq!(fail(&stats, &node, secs(2)), opened);
}

#[test]
fn one_user_opens_a_circuit_for_nobody_else() {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    let node = selector.registry().node("a@h");
    let [honest, hostile] = [1, 2].map(Caller);
    let leave = |caller, outcome| stats.leave(&node, None, outcome, Some(caller), || secs(1));
    leave(honest, Outcome::Success);
    for _ in 0..100 {
        assert_eq!(leave(hostile, Outcome::Failure), Transition::None);
    }
    assert!(!ticket(&stats, &node, secs(1)).is_probe());
}

#[test]
fn addresses_that_the_limiter_counts_together_are_one_caller() {
    let selector = selector();
    let call_stats = selector.call_stats();
    let address = |text: &str| call_stats.caller(CallerKind::Address, text.as_bytes());
    assert_eq!(address("2001:db8::1"), address("2001:DB8:0:0::ffff"));
    assert_eq!(address("::ffff:1.2.3.4"), address("1.2.3.4"));
    assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
    assert_ne!(address("1.2.3.4"), address("1.2.3.5"));
    assert_eq!(address("no address"), address("no address"));
    assert_ne!(address("no address"), address("no other"));
    // A user may be called as an address is written.
    let user = |name: &str| call_stats.caller(CallerKind::User, name.as_bytes());
    assert_ne!(user("1.2.3.4"), address("1.2.3.4"));
    assert_ne!(user("2001:db8::1"), user("2001:db8::2"));
    call_stats.set_ipv6_prefix(48);
    assert_eq!(address("2001:db8::1"), address("2001:db8:0:1::1"));
    call_stats.set_ipv6_prefix(128);
    assert_ne!(address("2001:db8::1"), address("2001:db8::2"));
}

#[test]
fn where_fewer_than_half_of_three_or_more_are_usable_open_circuits_are_ignored() {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    let circuits = stats.circuits();
    let names: Vec<String> = (0..10).map(|n| format!("n{n}@h")).collect();
    let among = |n: usize| {
        let names = names.iter().take(n).map(String::as_str);
        Candidates::new(selector.registry(), names)
    };
    let usable = |candidates: &Candidates| {
        let view = circuits.view(|| secs(2)).among(candidates);
        let usable = |&i: &usize| view.allows(candidates.get(i));
        (0..candidates.len()).filter(usable).count()
    };
    let ten = among(10);
    let node = |n| ten.get(n).unwrap();
    (0..3).for_each(|n| open(&stats, node(n), secs(1)));
    assert_eq!(usable(&ten), 7);
    assert!(matches!(
        circuits.enter_among(&ten, node(0), || secs(2)),
        Entry::Refused
    ));
    // The rest cannot carry the load either.
    (3..5).for_each(|n| open(&stats, node(n), secs(1)));
    assert_eq!(usable(&ten), 5, "exactly half");
    open(&stats, node(5), secs(1));
    assert_eq!(usable(&ten), 10);
    assert!(matches!(
        circuits.enter_among(&ten, node(0), || secs(2)),
        Entry::Free
    ));
    // One node that is down counts as not usable, and is not called.
    let six = {
        let names = names[3..9].iter().map(String::as_str);
        Candidates::new(selector.registry(), names)
    };
    assert_eq!(usable(&six), 3);
    node(8).mark_down();
    assert_eq!(usable(&six), 6);
    let view = circuits.view(|| secs(2)).among(&six);
    let order = selector.order(&six, &Mode::Random, None, secs(2), |i| {
        view.allows(six.get(i))
    });
    assert_eq!(order.len(), 5);
    // With one or two nodes a circuit keeps its word.
    for n in [1, 2] {
        let few = among(n);
        assert_eq!(usable(&few), 0);
        assert!(matches!(
            circuits.enter_among(&few, node(0), || secs(2)),
            Entry::Refused
        ));
    }
}

#[test]
fn switched_off_there_are_no_circuits_and_changed_settings_start_anew() {
    let selector = selector();
    let call_stats = selector.call_stats();
    let stats = call_stats.of_function(NAME);
    let node = selector.registry().node("a@h");
    open(&stats, &node, secs(1));
    assert!(
        call_stats.configure(Some(settings()), secs(2)).is_empty(),
        "nothing has changed"
    );
    assert_eq!(fail(&stats, &node, secs(2)), None);

    let forgotten = call_stats.configure(None, secs(2));
    assert_eq!(forgotten.len(), 1);
    assert_eq!(
        (forgotten[0].0.name(), forgotten[0].1.name()),
        (NAME, "a@h")
    );
    for _ in 0..100 {
        assert_eq!(fail(&stats, &node, secs(2)), Some(Transition::None));
    }
    assert!(!stats.circuits().any());
    call_stats.configure(Some(settings()), secs(3));
    open(&stats, &node, secs(3));
}

#[test]
fn a_dropped_circuit_opens_and_closes_no_more() {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    let node = selector.registry().node("a@h");
    fail(&stats, &node, secs(1));
    fail(&stats, &node, secs(1));
    let last = ticket(&stats, &node, secs(1));
    selector.call_stats().configure(None, secs(1));
    let transition = stats.leave(&node, Some(&last), Outcome::Failure, None, || secs(1));
    assert_eq!(transition, Transition::None);
}

#[test]
fn circuits_go_ten_cooldowns_after_the_last_thing_of_note() {
    let selector = selector();
    let call_stats = selector.call_stats();
    let stats = call_stats.of_function(NAME);
    let [a, b, c] = ["a@h", "b@h", "c@h"].map(|name| selector.registry().node(name));
    open(&stats, &a, secs(0));
    fail(&stats, &b, secs(0));
    fail(&stats, &c, secs(200));
    // It is in use.
    assert_eq!(
        call(&stats, &b, Outcome::Success, secs(299)),
        Some(Transition::None)
    );
    assert!(call_stats.sweep(secs(299)).is_empty());
    assert_eq!(stats.circuits().all().len(), 3);
    let forgotten = call_stats.sweep(secs(300));
    assert_eq!(
        forgotten
            .iter()
            .map(|(_, node)| node.name())
            .collect::<Vec<_>>(),
        ["a@h"]
    );
    let left = stats.circuits().all();
    assert_eq!(left.len(), 2);
    assert!(left
        .iter()
        .all(|circuit| circuit.state(secs(300)) == State::Closed));
    assert!(call_stats.sweep(secs(359)).is_empty());
    assert_eq!(stats.circuits().all().len(), 1);
    assert!(call_stats.sweep(secs(600)).is_empty());
    assert!(!stats.circuits().any());
}

#[test]
fn a_function_is_remembered_while_held_or_while_there_is_something_to_remember() {
    let selector = selector();
    let call_stats = selector.call_stats();
    let node = selector.registry().node("a@h");
    let held = call_stats.of_function(NAME);
    for n in 0..1_000 {
        let stats = call_stats.of_function(["books", &n.to_string(), "1"]);
        if n < 10 {
            open(&stats, &node, secs(0));
        } else if n < 20 {
            stats.budget().request(secs(0));
        }
    }
    assert_eq!(call_stats.len(), 1_001);
    assert!(call_stats.bytes() > 1_000 * 50);
    call_stats.sweep(secs(1));
    assert_eq!(call_stats.len(), 21);
    // Stored again: nothing is forgiven.
    assert_eq!(
        fail(&call_stats.of_function(["books", "3", "1"]), &node, secs(1)),
        None
    );
    call_stats.sweep(secs(20));
    assert_eq!(call_stats.len(), 11);
    assert_eq!(call_stats.sweep(secs(301)).len(), 10);
    // Until then they were needed to say what was forgotten.
    call_stats.sweep(secs(302));
    assert_eq!(call_stats.len(), 1);
    assert!(Arc::ptr_eq(&held, &call_stats.of_function(NAME)));
    assert!(call_stats.bytes() < 2_000);
}

#[test]
fn all_routes_of_a_function_share_the_name_that_sticky_values_hold_on_to() {
    let selector = selector();
    let call_stats = selector.call_stats();
    let of = |name| Arc::clone(call_stats.of_function(name).key());
    assert!(Arc::ptr_eq(&of(NAME), &of(NAME)));
    assert_ne!(of(["ab", "c", "1"]), of(["a", "bc", "1"]));
}

#[test]
fn a_node_list_without_end_does_not_make_circuits_without_end() {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    for n in 0..2 * MAX_CIRCUITS {
        fail(
            &stats,
            &selector.registry().node(&format!("n{n}@h")),
            secs(1),
        );
    }
    assert_eq!(stats.circuits().all().len(), MAX_CIRCUITS);
    selector.call_stats().sweep(secs(1_000));
    assert!(stats.circuits().all().is_empty());
    selector.registry().prune(secs(1_000));
    selector.registry().prune(secs(1_001));
    assert!(selector.registry().is_empty());
}

#[test]
fn of_all_threads_one_opens_it_one_probes_and_one_closes_it() {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    let node = selector.registry().node("a@h");
    for round in 0..200u64 {
        let now = secs(100 * round);
        let (opened, closed, probes) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
        let count = |transition| match transition {
            Some(Transition::Opened { .. }) => drop(opened.fetch_add(1, SeqCst)),
            Some(Transition::Closed) => drop(closed.fetch_add(1, SeqCst)),
            _ => {}
        };
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    (0..10).for_each(|_| count(fail(&stats, &node, now)));
                    barrier.wait();
                    let later = now.saturating_add(secs(50));
                    let entry = stats.circuits().enter(&node, || later);
                    barrier.wait();
                    if let Entry::Ticket(probe) = entry {
                        probes.fetch_add(1, SeqCst);
                        count(Some(stats.leave(
                            &node,
                            Some(&probe),
                            Outcome::Success,
                            None,
                            || later,
                        )));
                    }
                });
            }
        });
        let counts = [opened, closed, probes].map(|count| count.into_inner());
        assert_eq!(counts, [1, 1, 1], "round {round}");
    }
}

#[test]
fn a_node_that_is_reached_again_is_probed_at_once_by_one_call() {
    let selector = selector();
    let [node, other] = ["a@h", "b@h"].map(|name| selector.registry().node(name));
    let call_stats = selector.call_stats();
    let stats = call_stats.of_function(NAME);
    open(&stats, &node, secs(1));
    open(&stats, &other, secs(1));
    assert_eq!(fail(&stats, &node, secs(2)), None);

    call_stats.end_cooldown(&node, secs(3));
    assert_eq!(fail(&stats, &other, secs(3)), None);
    let probe = ticket(&stats, &node, secs(3));
    assert!(probe.is_probe());
    assert_eq!(fail(&stats, &node, secs(3)), None);

    // Nothing is changed while it is under way, nor where no circuit is open.
    call_stats.end_cooldown(&node, secs(4));
    assert_eq!(fail(&stats, &node, secs(4)), None);
    let reopened = stats.leave(&node, Some(&probe), Outcome::Failure, None, || secs(5));
    assert_eq!(reopened, Transition::Opened { failures: 4 });
    assert_eq!(fail(&stats, &node, secs(5)), None);
    call_stats.end_cooldown(&node, secs(6));
    assert_eq!(
        call(&stats, &node, Outcome::Success, secs(6)),
        Some(Transition::Closed)
    );
    assert_eq!(fail(&stats, &node, secs(6)), Some(Transition::None));
    call_stats.end_cooldown(&node, secs(6));
    assert!(!ticket(&stats, &node, secs(6)).is_probe());
    assert_eq!(fail(&stats, &node, secs(6)), Some(Transition::None));
}

// Requests come one a millisecond and good ones take 20 ms; "a@h" answers with an error at once.
fn share_of_a_node_that_fails_at_once(told: bool) -> f64 {
    let selector = selector();
    let stats = selector.call_stats().of_function(NAME);
    let candidates = Candidates::new(selector.registry(), ["a@h", "b@h", "c@h"]);
    let mut flying: Vec<(Nanos, Nanos, Flight)> = Vec::new();
    let mut calls = [0u32; 3];
    let mut rng = Rng::from_seed(7);
    for now in (0..3_000).map(Nanos::from_millis) {
        flying.retain(|(began, end, flight)| {
            if *end > now {
                return true;
            }
            stats.record_duration(flight.node(), true, *began, now);
            flight.finish();
            false
        });
        let picked =
            selector.pick_with(&mut rng, &candidates, &Mode::LeastBusy, None, now, |_| true);
        let picked = picked.unwrap();
        calls[picked] += 1;
        let node = candidates.get(picked).unwrap();
        let flight = Flight::start(Arc::clone(node));
        if picked != 0 {
            flying.push((now, now.saturating_add(Nanos::from_millis(20)), flight));
        } else if told {
            stats.record_duration(node, false, now, now);
        }
    }
    f64::from(calls[0]) / 3_000.0
}

#[test]
fn a_node_that_fails_at_once_gets_no_more_than_its_share_of_the_calls() {
    let share = share_of_a_node_that_fails_at_once(true);
    assert!(share < 0.37, "{share}");
    // What it would get.
    let share = share_of_a_node_that_fails_at_once(false);
    assert!(share > 0.9, "{share}");
}

#[test]
fn failed_calls_count_as_load_until_their_time_in_bounded_memory() {
    let selector = selector();
    let node = selector.registry().node("a@h");
    for millis in 0..5_000 {
        node.add_failed_load(Nanos::from_millis(1_000 + millis));
    }
    assert_eq!(node.load(secs(1)), 5_000);
    assert_eq!(node.in_flight(), 0);
    // The first thousand and 24 are known to the millisecond.
    assert_eq!(node.load(Nanos::from_millis(1_501)), 4_499);
    assert_eq!(node.load(secs(7)), 0);
    node.add_failed_load(secs(8));
    assert_eq!((node.load(secs(7)), node.load(secs(9))), (1, 0));
}
