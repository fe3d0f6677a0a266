use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{
    CandidateSet, Candidates, Members, Mode, Place, Rng, Selector, SetWeights, Weights, MAX_MEMBERS,
};
use proptest::prelude::*;

use super::{names, selector};

type Set = CandidateSet<String>;

/// Each member's payload is its name, so that one that belongs to another is noticed.
fn put(selector: &Selector, set: &Set, names: &[String]) -> bool {
    let members = names.iter().map(|name| (name.clone(), name.clone()));
    set.put(selector.registry(), members)
}

fn held<T>(members: &Members<T>) -> Vec<String> {
    let nodes = members.candidates().iter();
    nodes.map(|node| node.name().to_owned()).collect()
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names.dedup();
    names
}

fn subset() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(0..40usize, 0..25)
        .prop_map(|picked| picked.iter().map(|&i| names(40)[i].clone()).collect())
}

#[test]
fn members_are_those_put_last_by_name_and_each_once() {
    let (selector, set) = (selector(), Set::default());
    assert!(set.load().candidates().is_empty());
    let listed = ["c@h", "a@h", "b@h", "a@h"].map(String::from);
    assert!(put(&selector, &set, &listed));
    assert_eq!(held(&set.load()), ["a@h", "b@h", "c@h"]);
    assert_eq!(set.load().payloads(), ["a@h", "b@h", "c@h"]);
    assert!(put(&selector, &set, &[]));
    assert!(set.load().candidates().is_empty());
    assert!(set.load().payloads().is_empty());
}

#[test]
fn of_too_many_members_the_first_by_name_are_taken() {
    let (selector, set) = (selector(), Set::default());
    let mut many: Vec<String> = (0..MAX_MEMBERS + 100)
        .map(|i| format!("n{i:04}@h"))
        .collect();
    many.reverse();
    assert!(put(&selector, &set, &many));
    let all = sorted(&many);
    assert_eq!(held(&set.load()), all[..MAX_MEMBERS]);
}

#[test]
fn the_same_members_are_no_change() {
    let (selector, set) = (selector(), Set::default());
    assert!(!put(&selector, &set, &[]));
    let mut listed = names(5);
    assert!(put(&selector, &set, &listed));
    let before = Arc::clone(&set.load());
    listed.reverse();
    assert!(!put(&selector, &set, &listed));
    assert!(Arc::ptr_eq(&before, &set.load()));
}

#[test]
fn weights_are_worked_out_once_for_each_state() {
    let (selector, set) = (selector(), Set::default());
    let weights = SetWeights::new(HashMap::from([(names(1)[0].clone(), 7)]));
    assert!(put(&selector, &set, &names(3)));
    let members = set.load();
    let first = Arc::clone(&weights.prepared(&members));
    assert!(Arc::ptr_eq(&first, &weights.prepared(&members)));
    assert!(put(&selector, &set, &names(2)));
    let second = Arc::clone(&weights.prepared(&set.load()));
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &weights.prepared(&set.load())));
    // Whoever still has the members of before gets theirs.
    assert_eq!(each(&weights, &members), [7, 1, 1]);
    assert_eq!(each(&weights, &set.load()), [7, 1]);
}

fn each(weights: &SetWeights, members: &Members<String>) -> Vec<u32> {
    let prepared = weights.prepared(members);
    let Mode::Weighted(weights) = prepared.mode() else {
        panic!("another mode");
    };
    let count = members.candidates().len();
    // There is none beyond the last.
    assert_eq!(weights.get(count), 0);
    (0..count).map(|index| weights.get(index)).collect()
}

#[test]
fn a_place_of_any_number_is_a_member_or_none() {
    let (selector, set) = (selector(), Set::default());
    assert!(put(&selector, &set, &names(3)));
    let members = set.load();
    for number in [0, 1, 1 << 47, 1 << 48, (1 << 58) - 1, 1 << 58, u64::MAX] {
        assert_eq!(members.index(Place::from_number(number)), None);
    }
    assert_eq!(members.place(3), None);
}

/// Every mode, with memories of its own, and a key.
fn modes(candidates: &Candidates) -> Vec<(Mode, Option<&'static [u8]>)> {
    vec![
        (Mode::Random, None),
        (Mode::Rendezvous, Some(b"key")),
        (Mode::RoundRobin(Arc::new(Default::default())), None),
        (
            Mode::Sticky {
                function: Arc::from(&b"f"[..]),
            },
            Some(b"key"),
        ),
        (Mode::LeastBusy, None),
        (Mode::Weighted(Weights::new(candidates, weight)), None),
    ]
}

fn weight(name: &str) -> Option<u32> {
    name.bytes().last().map(|byte| u32::from(byte) % 4)
}

proptest! {
    #[test]
    fn a_set_chooses_as_a_fixed_list_of_its_members_in_every_mode(
        states in prop::collection::vec((subset(), any::<u64>()), 1..8),
        down in subset(),
    ) {
        // Each has a memory of its own, so that a choice of one says nothing to the other.
        let (ours, theirs) = (selector(), selector());
        let set = Set::default();
        let by_name = names(40).iter().map(|n| (n.clone(), weight(n).unwrap())).collect();
        let weights = SetWeights::new(by_name);
        for selector in [&ours, &theirs] {
            for name in &down {
                selector.registry().node(name).mark_down();
            }
        }
        let none = Candidates::default();
        let of_set = modes(&none);
        let of_list = modes(&none);
        for (state, seed) in states {
            put(&ours, &set, &state);
            let members = set.load();
            let listed = sorted(&state);
            let candidates = Candidates::new(theirs.registry(), listed.iter().map(String::as_str));
            prop_assert_eq!(held(&members), listed.clone());
            prop_assert_eq!(members.payloads(), listed);
            let prepared = weights.prepared(&members);
            let fresh = modes(&candidates);
            for (i, (mode, key)) in of_set.iter().enumerate() {
                let weighted = matches!(mode, Mode::Weighted(_));
                let mode = if weighted { prepared.mode() } else { mode };
                let same = if weighted { &fresh[i].0 } else { &of_list[i].0 };
                let mut rngs = [Rng::from_seed(seed), Rng::from_seed(seed)];
                let usable = |index: usize| index % 5 != 4;
                let pick = ours.pick_with(
                    &mut rngs[0], members.candidates(), mode, *key, Nanos(1), usable);
                let expected = theirs.pick_with(
                    &mut rngs[1], &candidates, same, *key, Nanos(1), usable);
                prop_assert_eq!(pick, expected, "{:?}", mode);
                let order = ours.order_with(
                    &mut rngs[0], members.candidates(), mode, *key, Nanos(2), usable);
                let expected = theirs.order_with(
                    &mut rngs[1], &candidates, same, *key, Nanos(2), usable);
                prop_assert_eq!(order, expected, "{:?}", mode);
                let why = ours.unavailable(members.candidates(), mode, usable);
                prop_assert_eq!(why, theirs.unavailable(&candidates, same, usable));
            }
        }
    }

    #[test]
    fn a_key_moves_only_from_a_node_that_goes_or_to_one_that_comes(
        states in prop::collection::vec(subset(), 2..8),
        keys in prop::collection::vec(any::<[u8; 6]>(), 20),
    ) {
        let (selector, set) = (selector(), Set::default());
        let choices = || -> Vec<Option<String>> {
            let members = set.load();
            keys.iter().map(|key| {
                let candidates = members.candidates();
                let pick = selector.pick(
                    candidates, &Mode::Rendezvous, Some(key), Nanos::ZERO, |_| true)?;
                candidates.name(pick).map(str::to_owned)
            }).collect()
        };
        let mut before = (HashSet::new(), choices());
        for state in states {
            put(&selector, &set, &state);
            let now: HashSet<String> = state.into_iter().collect();
            let chosen = choices();
            for (was, is) in before.1.iter().zip(&chosen) {
                let gone = was.as_ref().is_none_or(|was| !now.contains(was));
                let new = is.as_ref().is_none_or(|is| !before.0.contains(is));
                prop_assert!(was == is || gone || new, "{:?} to {:?}", was, is);
            }
            before = (now, chosen);
        }
    }

    #[test]
    fn a_place_finds_its_node_in_every_state_and_every_set_that_has_it(
        states in prop::collection::vec(subset(), 2..8),
    ) {
        let (selector, one, other) = (selector(), Set::default(), Set::default());
        let mut places: HashMap<String, HashSet<u64>> = HashMap::new();
        for state in states {
            let elsewhere = held(&one.load());
            put(&selector, &one, &state);
            put(&selector, &other, &elsewhere);
            let members = one.load();
            for (index, name) in held(&members).into_iter().enumerate() {
                let number = members.place(index).unwrap().number();
                prop_assert!(number < 1 << 58);
                places.entry(name).or_default().insert(number);
            }
            for members in [&members, &other.load()] {
                let held = held(members);
                for (name, numbers) in &places {
                    let expected = held.iter().position(|other| other == name);
                    for &number in numbers {
                        prop_assert_eq!(members.index(Place::from_number(number)), expected);
                    }
                }
            }
        }
    }
}

#[test]
fn readers_see_the_members_of_before_or_after_and_never_a_mix() {
    let selector = Arc::new(selector());
    let set = Arc::new(Set::default());
    let by_name = names(40).into_iter().zip(100..).collect();
    let weights = Arc::new(SetWeights::new(by_name));
    let states = Arc::new([names(40), names(3), vec![], names(40)[7..].to_vec()]);
    put(&selector, &set, &states[0]);
    let (start, done) = (Arc::new(Barrier::new(4)), Arc::new(AtomicBool::new(false)));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (set, weights, states) = (set.clone(), weights.clone(), states.clone());
            let (start, done) = (start.clone(), done.clone());
            thread::spawn(move || {
                let known: Vec<_> = states.iter().map(|state| sorted(state)).collect();
                start.wait();
                while !done.load(Ordering::Acquire) {
                    let members = set.load();
                    let held = held(&members);
                    assert!(known.contains(&held), "members that nobody put: {held:?}");
                    assert_eq!(members.payloads(), held);
                    let expected: Vec<u32> = held
                        .iter()
                        .map(|name| {
                            let at = names(40).iter().position(|other| other == name);
                            100 + at.unwrap() as u32
                        })
                        .collect();
                    assert_eq!(each(&weights, &members), expected);
                }
            })
        })
        .collect();
    start.wait();
    for turn in 0..3_000 {
        assert!(put(&selector, &set, &states[(turn + 1) % states.len()]));
    }
    done.store(true, Ordering::Release);
    for reader in readers {
        reader.join().unwrap();
    }
}
