use std::collections::HashMap;
use std::sync::{Arc, Barrier};
use std::thread;

use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{
    Candidates, Flight, Mode, Obstacle, Rng, Selector, Unavailable, Weights,
};
use proptest::prelude::*;

use super::{candidates, chi_square, chi_square_limit, names, selector};

fn weights(candidates: &Candidates, each: &[u32]) -> Mode {
    let by_name: HashMap<&str, u32> = (0..each.len())
        .map(|i| (candidates.name(i).unwrap(), each[i]))
        .collect();
    Mode::Weighted(Weights::new(candidates, |name| by_name.get(name).copied()))
}

fn order(
    selector: &Selector,
    rng: &mut Rng,
    candidates: &Candidates,
    mode: &Mode,
    usable: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let order = selector.order_with(rng, candidates, mode, None, Nanos::ZERO, usable);
    order.iter().map(|&i| i as usize).collect()
}

/// How often each candidate is picked, and how often it is first in an order.
fn hits(
    candidates: &Candidates,
    selector: &Selector,
    mode: &Mode,
    usable: impl Fn(usize) -> bool,
) -> [Vec<u64>; 2] {
    let mut rng = Rng::from_seed(1);
    let mut hits = [vec![0; candidates.len()], vec![0; candidates.len()]];
    for _ in 0..50_000 {
        let pick = selector.pick_with(&mut rng, candidates, mode, None, Nanos::ZERO, &usable);
        hits[0][pick.unwrap()] += 1;
        hits[1][order(selector, &mut rng, candidates, mode, &usable)[0]] += 1;
    }
    hits
}

fn assert_proportional(hits: &[u64], shares: &[f64]) {
    let picks = hits.iter().sum::<u64>() as f64;
    let total: f64 = shares.iter().sum();
    let (mut observed, mut expected) = (vec![], vec![]);
    for (&hits, &share) in hits.iter().zip(shares) {
        if share == 0.0 {
            assert_eq!(hits, 0, "never to be chosen");
        } else {
            observed.push(hits);
            expected.push(share / total * picks);
        }
    }
    let statistic = chi_square(&observed, &expected);
    assert!(
        statistic < chi_square_limit(observed.len()),
        "{observed:?} instead of {expected:?}: {statistic}"
    );
}

#[test]
fn random_picks_every_usable_node_equally_often() {
    let selector = selector();
    let candidates = candidates(&selector, &names(6));
    candidates.get(3).unwrap().drain();
    for hits in hits(&candidates, &selector, &Mode::Random, |i| i != 0) {
        assert_proportional(&hits, &[0.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
    }
}

#[test]
fn random_orders_are_all_equally_likely() {
    let selector = selector();
    let candidates = candidates(&selector, &names(4));
    let mut rng = Rng::from_seed(2);
    let mut seen: HashMap<Vec<usize>, u64> = HashMap::new();
    for _ in 0..48_000 {
        *seen
            .entry(order(
                &selector,
                &mut rng,
                &candidates,
                &Mode::Random,
                |_| true,
            ))
            .or_default() += 1;
    }
    let seen: Vec<u64> = seen.into_values().collect();
    assert_proportional(&seen, &[1.0; 24]);
}

#[test]
fn bounded_draws_are_uniform_where_a_plain_remainder_would_not_be() {
    let bound = (1 << 63) + (1 << 62);
    let mut rng = Rng::from_seed(3);
    // Four inputs for three outputs: unless some are rejected, every third output comes twice as often.
    let mut residues = [0; 3];
    for _ in 0..60_000 {
        let draw = rng.below(bound);
        assert!(draw < bound);
        residues[(draw % 3) as usize] += 1;
    }
    assert_proportional(&residues, &[1.0; 3]);
    assert_eq!([rng.below(0), rng.below(1)], [0, 0]);
}

#[test]
fn threads_draw_different_numbers() {
    let pick_many = || {
        let selector = selector();
        let candidates = candidates(&selector, &names(100));
        let pick = |_| {
            selector
                .pick(&candidates, &Mode::Random, None, Nanos::ZERO, |_| true)
                .unwrap()
        };
        (0..20).map(pick).collect::<Vec<_>>()
    };
    let threads = [thread::spawn(pick_many), thread::spawn(pick_many)];
    let [a, b] = threads.map(|thread| thread.join().unwrap());
    assert_ne!(a, b);
}

#[test]
fn weighted_picks_are_proportional_to_the_weights_of_the_usable_nodes() {
    let selector = selector();
    let candidates = candidates(&selector, &names(6));
    let mode = weights(&candidates, &[5, 0, 1_000, 2_000, 3_000]);
    for hits in hits(&candidates, &selector, &mode, |_| true) {
        assert_proportional(&hits, &[5.0, 0.0, 1_000.0, 2_000.0, 3_000.0, 1.0]);
    }
    candidates.get(4).unwrap().mark_down();
    for hits in hits(&candidates, &selector, &mode, |i| i != 0) {
        assert_proportional(&hits, &[0.0, 0.0, 1_000.0, 2_000.0, 0.0, 1.0]);
    }
}

#[test]
fn a_weightless_node_is_not_chosen_by_the_lowest_or_the_highest_draw() {
    let selector = selector();
    let candidates = candidates(&selector, &names(5));
    let mode = weights(&candidates, &[0, 1, 0, 1, 0]);
    for hits in hits(&candidates, &selector, &mode, |_| true) {
        assert_proportional(&hits, &[0.0, 1.0, 0.0, 1.0, 0.0]);
    }
    for hits in hits(&candidates, &selector, &mode, |i| i != 1) {
        assert_eq!(hits, [0, 0, 0, 50_000, 0]);
    }
}

#[test]
fn a_weighted_order_is_successive_draws_without_replacement() {
    let selector = selector();
    let candidates = candidates(&selector, &names(3));
    let each = [1, 2, 4];
    let mode = weights(&candidates, &each);
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let probability = |&[a, b, _]: &[usize; 3]| {
        let (first, second) = (f64::from(each[a]), f64::from(each[b]));
        first / 7.0 * second / (7.0 - first)
    };
    let mut rng = Rng::from_seed(4);
    let mut seen = [0; 6];
    for _ in 0..50_000 {
        let drawn = order(&selector, &mut rng, &candidates, &mode, |_| true);
        seen[orders.iter().position(|order| drawn == order).unwrap()] += 1;
    }
    assert_proportional(&seen, &orders.iter().map(probability).collect::<Vec<_>>());
}

#[test]
fn the_idlest_nodes_are_picked_equally_often() {
    let selector = selector();
    let candidates = candidates(&selector, &names(6));
    let start = |i| Flight::start(Arc::clone(candidates.get(i).unwrap()));
    let flights: Vec<Flight> = [0, 0, 1, 2, 2, 2, 3, 5].map(start).into();
    candidates.get(4).unwrap().mark_down();
    for hits in hits(&candidates, &selector, &Mode::LeastBusy, |_| true) {
        assert_proportional(&hits, &[0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    }
    let mut rng = Rng::from_seed(5);
    let busiest_last = order(&selector, &mut rng, &candidates, &Mode::LeastBusy, |_| true);
    assert_eq!(busiest_last[3..], [0, 2]);
    drop(flights);
    assert!(candidates.iter().all(|node| node.in_flight() == 0));
}

#[test]
fn least_busy_keeps_concurrent_callers_balanced_and_counts_back_to_zero() {
    let selector = selector();
    let candidates = candidates(&selector, &names(4));
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                let mut flights = vec![];
                for _ in 0..1_000 {
                    let pick =
                        selector.pick(&candidates, &Mode::LeastBusy, None, Nanos::ZERO, |_| true);
                    flights.push(Flight::start(Arc::clone(
                        candidates.get(pick.unwrap()).unwrap(),
                    )));
                }
                barrier.wait();
                let loads: Vec<u32> = candidates.iter().map(|node| node.in_flight()).collect();
                assert_eq!(loads.iter().sum::<u32>(), 4_000);
                // Loads may change between looking and counting, once per thread at a time.
                let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
                assert!(spread <= 8, "{loads:?}");
                barrier.wait();
                flights.iter().for_each(Flight::finish);
                flights.iter().for_each(Flight::finish);
            });
        }
    });
    assert!(candidates.iter().all(|node| node.in_flight() == 0));
}

#[test]
fn the_reason_for_an_empty_choice_names_every_candidate() {
    let selector = selector();
    let candidates = candidates(&selector, &names(3));
    candidates.get(0).unwrap().mark_down();
    candidates.get(1).unwrap().drain();
    let all = vec![
        (0, Obstacle::Down),
        (1, Obstacle::Draining),
        (2, Obstacle::CircuitOpen),
    ];
    let why = selector.unavailable(&candidates, &Mode::Random, |_| false);
    assert_eq!(why, Unavailable::AllUnavailable(all.clone()));
    let weightless = weights(&candidates, &[1, 1, 0]);
    assert_eq!(
        selector.pick(&candidates, &weightless, None, Nanos::ZERO, |_| true),
        None
    );
    assert_eq!(
        selector.unavailable(&candidates, &weightless, |_| true),
        Unavailable::NoNodes
    );
    assert_eq!(
        selector.unavailable(&candidates, &weightless, |_| false),
        Unavailable::AllUnavailable(all)
    );
    let none = Candidates::default();
    assert_eq!(
        selector.unavailable(&none, &Mode::Random, |_| true),
        Unavailable::NoNodes
    );
}

proptest! {
    #[test]
    fn every_mode_orders_exactly_the_usable_candidates_and_picks_one_of_them(
        mode in 0..6u8,
        states in prop::collection::vec((0..6u8, 0..4u32, 0..3u32), 0..90),
        seed in any::<u64>(),
    ) {
        let selector = selector();
        let candidates = candidates(&selector, &names(states.len()));
        let mut flights = vec![];
        for (node, &(state, _, load)) in candidates.iter().zip(&states) {
            match state {
                0 => assert!(node.mark_down()),
                1 => assert!(node.drain()),
                _ => {}
            }
            flights.extend((0..load).map(|_| Flight::start(Arc::clone(node))));
        }
        let weight: Vec<u32> = states.iter().map(|state| state.1).collect();
        let weighted = mode == 5;
        let mode = match mode {
            0 => Mode::Random,
            1 => Mode::Rendezvous,
            2 => Mode::RoundRobin(selector.cursor(b"f")),
            3 => Mode::Sticky { function: b"f".as_slice().into() },
            4 => Mode::LeastBusy,
            _ => weights(&candidates, &weight),
        };
        let usable = |i: usize| states[i].0 != 2;
        let expected: Vec<usize> = (0..states.len())
            .filter(|&i| states[i].0 > 2 && (!weighted || weight[i] > 0))
            .collect();
        let mut rng = Rng::from_seed(seed);
        let order = selector.order_with(&mut rng, &candidates, &mode, Some(b"k"), Nanos::ZERO, usable);
        let mut sorted: Vec<usize> = order.iter().map(|&i| i as usize).collect();
        if matches!(mode, Mode::LeastBusy) {
            prop_assert!(sorted.is_sorted_by_key(|&i| states[i].2));
        }
        sorted.sort_unstable();
        prop_assert_eq!(&sorted, &expected);
        let pick = selector.pick_with(&mut rng, &candidates, &mode, Some(b"k"), Nanos::ZERO, usable);
        prop_assert_eq!(pick.is_some(), !expected.is_empty());
        if let Some(pick) = pick {
            prop_assert!(expected.contains(&pick));
            match mode {
                Mode::Rendezvous | Mode::Sticky { .. } => prop_assert_eq!(pick, order[0] as usize),
                Mode::RoundRobin(_) => prop_assert_eq!(pick, order[1 % order.len()] as usize),
                Mode::LeastBusy => prop_assert_eq!(states[pick].2, states[order[0] as usize].2),
                Mode::Random | Mode::Weighted(_) => {}
            }
        }
    }
}
