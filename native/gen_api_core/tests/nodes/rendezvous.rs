use std::collections::HashMap;

use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{hash, Candidates, Mode, Selector};
use proptest::prelude::*;
use serde::Deserialize;

use super::{candidates, chi_square, chi_square_limit, names, selector};

const VECTORS: &str = include_str!("../vectors/rendezvous.json");

/// What is written down there.
#[derive(Deserialize)]
struct Vectors {
    hashes: Vec<Pinned>,
    cases: Vec<Case>,
}

#[derive(Deserialize, Debug)]
struct Pinned {
    text: String,
    fnv1a64: Hex,
    mixed: Hex,
}

#[derive(Deserialize, Debug)]
struct Case {
    key: String,
    scores: HashMap<String, Hex>,
    order: Vec<String>,
}

#[derive(Deserialize, Debug)]
#[serde(try_from = "String")]
struct Hex(u64);

impl TryFrom<String> for Hex {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u64::from_str_radix(&text, 16).map(Hex)
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).unwrap()
}

fn pick(selector: &Selector, candidates: &Candidates, key: &str) -> usize {
    let key = Some(key.as_bytes());
    let pick = selector.pick(candidates, &Mode::Rendezvous, key, Nanos::ZERO, |_| true);
    pick.unwrap()
}

#[test]
fn hashes_are_those_pinned() {
    for pinned in vectors().hashes {
        let hash = hash::fnv1a64(pinned.text.as_bytes());
        assert_eq!(hash, pinned.fnv1a64.0, "{pinned:?}");
        assert_eq!(hash::mix(hash), pinned.mixed.0, "{pinned:?}");
    }
}

#[test]
fn scores_and_orders_are_those_pinned_whatever_the_order_of_listing() {
    for case in vectors().cases {
        let key = case.key.as_bytes();
        for (name, expected) in &case.scores {
            let score = hash::score(hash::key_hash(key), hash::node_hash(name));
            assert_eq!(score, expected.0, "{name} in {case:?}");
        }
        let expected: Vec<&str> = case.order.iter().map(String::as_str).collect();
        let reversed: Vec<&str> = expected.iter().rev().copied().collect();
        for listed in [&expected, &reversed] {
            let selector = selector();
            let candidates = Candidates::new(selector.registry(), listed.iter().copied());
            let order = selector.order(
                &candidates,
                &Mode::Rendezvous,
                Some(key),
                Nanos::ZERO,
                |_| true,
            );
            let order: Vec<&str> = order
                .iter()
                .map(|&i| candidates.name(i as usize).unwrap())
                .collect();
            assert_eq!(order, expected, "{case:?}");
            let first = selector.pick(
                &candidates,
                &Mode::Rendezvous,
                Some(key),
                Nanos::ZERO,
                |_| true,
            );
            assert_eq!(candidates.name(first.unwrap()), expected.first().copied());
        }
    }
}

#[test]
fn the_table_of_the_contract_holds() {
    let table = [
        (
            "user_1",
            [0xaa6b8eaa1c155824, 0x838618eb1ba135ef, 0x56195f397ea3f4e1],
            [0, 1, 2],
        ),
        (
            "req_42",
            [0xad54ad05176053dc, 0x2be60648ca2a55d7, 0x13f04428124d7a99],
            [0, 1, 2],
        ),
        (
            "7",
            [0x211ae1aadac62673, 0x00e14d75b021532f, 0xad0d38cbda2b0aff],
            [2, 0, 1],
        ),
    ];
    let selector = selector();
    let candidates = Candidates::new(selector.registry(), ["a@h1", "b@h1", "c@h1"]);
    for (key, scores, order) in table {
        let key = key.as_bytes();
        let actual = candidates
            .iter()
            .map(|node| hash::score(hash::key_hash(key), node.hash()));
        assert!(actual.eq(scores));
        let actual = selector.order(
            &candidates,
            &Mode::Rendezvous,
            Some(key),
            Nanos::ZERO,
            |_| true,
        );
        assert_eq!(actual.as_slice(), order);
    }
}

#[test]
fn adding_a_node_moves_only_keys_to_it_and_as_many_as_its_share() {
    let selector = selector();
    let keys = 200_000;
    for count in [2, 9, 19] {
        let names = names(count + 1);
        let before = candidates(&selector, &names[..count]);
        let after = candidates(&selector, &names);
        let mut moved = 0;
        for key in (0..keys).map(|i| format!("user_{i}")) {
            let (old, new) = (
                pick(&selector, &before, &key),
                pick(&selector, &after, &key),
            );
            if old != new {
                assert_eq!(new, count, "{key} moved between old nodes");
                moved += 1;
            }
        }
        let share = f64::from(moved) / f64::from(keys);
        let ideal = 1.0 / (count + 1) as f64;
        assert!(
            (share - ideal).abs() < 0.01 * ideal.max(0.2),
            "{share} moved, ideal {ideal}"
        );
    }
}

#[test]
fn keys_that_differ_little_spread_evenly_over_nodes_that_differ_little() {
    let selector = selector();
    for count in [2, 3, 10, 64] {
        let candidates = candidates(&selector, &names(count));
        for prefix in ["", "user_", "0000000000000000000000000000000000000000"] {
            let keys = 100_000;
            let mut hits = vec![0; count];
            for key in 0..keys {
                hits[pick(&selector, &candidates, &format!("{prefix}{key}"))] += 1;
            }
            let expected = vec![f64::from(keys) / count as f64; count];
            let statistic = chi_square(&hits, &expected);
            assert!(
                statistic < chi_square_limit(count),
                "{prefix:?}, {count} nodes: {statistic}"
            );
        }
    }
}

#[test]
fn keys_of_a_dead_node_spread_evenly_over_the_others_and_return_with_it() {
    let selector = selector();
    let candidates = candidates(&selector, &names(5));
    let keys: Vec<String> = (0..50_000).map(|i| i.to_string()).collect();
    let before: Vec<usize> = keys
        .iter()
        .map(|key| pick(&selector, &candidates, key))
        .collect();
    candidates.get(2).unwrap().mark_down();
    let mut heirs: HashMap<usize, u64> = HashMap::new();
    for (key, &old) in keys.iter().zip(&before) {
        let new = pick(&selector, &candidates, key);
        if old == 2 {
            *heirs.entry(new).or_default() += 1;
        } else {
            assert_eq!(new, old, "{key} had nothing to do with the dead node");
        }
    }
    let heirs: Vec<u64> = [0, 1, 3, 4].iter().map(|i| heirs[i]).collect();
    let orphans = heirs.iter().sum::<u64>() as f64;
    assert!(chi_square(&heirs, &[orphans / 4.0; 4]) < chi_square_limit(4));
    candidates.get(2).unwrap().mark_up();
    let after: Vec<usize> = keys
        .iter()
        .map(|key| pick(&selector, &candidates, key))
        .collect();
    assert_eq!(after, before);
}

proptest! {
    #[test]
    fn order_is_a_sort_by_score_then_name(
        names in prop::collection::vec("[a-d]{1,2}@h[0-9]|GReLUrM4wMqfg9yzV3KQ|8yn0iYCKYHlIj4-BwPqk", 0..40),
        key in prop::collection::vec(any::<u8>(), 0..20),
        usable in prop::collection::vec(any::<bool>(), 40),
    ) {
        let selector = selector();
        let candidates = candidates(&selector, &names);
        let mut expected: Vec<usize> = (0..candidates.len()).filter(|&i| usable[i]).collect();
        expected.sort_by(|&a, &b| {
            let rank = |i| {
                let name = candidates.name(i).unwrap();
                (u64::MAX - hash::mix(hash::fnv1a64(&key) ^ hash::mix(hash::fnv1a64(name.as_bytes()))), name)
            };
            rank(a).cmp(&rank(b))
        });
        let order = selector.order(&candidates, &Mode::Rendezvous, Some(&key), Nanos::ZERO, |i| usable[i]);
        let order: Vec<usize> = order.iter().map(|&i| i as usize).collect();
        prop_assert_eq!(&order, &expected);
        let pick = selector.pick(&candidates, &Mode::Rendezvous, Some(&key), Nanos::ZERO, |i| usable[i]);
        prop_assert_eq!(pick, expected.first().copied());
    }
}
