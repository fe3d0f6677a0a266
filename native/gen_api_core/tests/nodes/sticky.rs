use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Barrier};
use std::thread;

use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{Candidates, Mode, Selector, StickyLimits};
use proptest::prelude::*;

use super::{candidates, names, selector};

fn limited(ttl: u64, max_entries: usize) -> Selector {
    Selector::new(StickyLimits {
        ttl: Nanos(ttl),
        max_entries,
    })
}

fn mode(function: &str) -> Mode {
    Mode::Sticky {
        function: function.as_bytes().into(),
    }
}

fn pick(
    selector: &Selector,
    candidates: &Candidates,
    function: &str,
    value: &str,
    now: u64,
) -> Option<usize> {
    selector.pick(
        candidates,
        &mode(function),
        Some(value.as_bytes()),
        Nanos(now),
        |_| true,
    )
}

fn rendezvous(selector: &Selector, candidates: &Candidates, value: &str) -> Option<usize> {
    selector.pick(
        candidates,
        &Mode::Rendezvous,
        Some(value.as_bytes()),
        Nanos::ZERO,
        |_| true,
    )
}

/// A value whose rendezvous choice differs between the two lists.
fn moving_value(selector: &Selector, before: &Candidates, after: &Candidates) -> String {
    let choice = |list: &Candidates, value: &str| {
        list.name(rendezvous(selector, list, value).unwrap())
            .map(str::to_owned)
    };
    (0..)
        .map(|i| format!("v{i}"))
        .find(|v| choice(before, v) != choice(after, v))
        .unwrap()
}

#[test]
fn a_value_stays_with_its_node_when_nodes_are_added_or_reordered() {
    let selector = selector();
    let mut names = names(4);
    let before = candidates(&selector, &names[..2]);
    names.reverse();
    let after = candidates(&selector, &names);
    for value in (0..200).map(|i| i.to_string()) {
        let first = pick(&selector, &before, "f", &value, 0);
        assert_eq!(first, rendezvous(&selector, &before, &value));
        let later = pick(&selector, &after, "f", &value, 1);
        assert_eq!(after.name(later.unwrap()), before.name(first.unwrap()));
    }
    assert_eq!(selector.sticky().len(), 200);
}

#[test]
fn functions_do_not_share_memories_even_if_their_keys_run_together() {
    let selector = selector();
    let names = names(4);
    let (before, after) = (
        candidates(&selector, &names[..2]),
        candidates(&selector, &names),
    );
    let value = moving_value(&selector, &before, &after);
    pick(&selector, &before, "f", &value, 0);
    assert_eq!(
        pick(&selector, &after, "g", &value, 0),
        rendezvous(&selector, &after, &value)
    );
    pick(&selector, &after, "ab", "c", 0);
    pick(&selector, &after, "a", "bc", 0);
    assert_eq!(selector.sticky().len(), 4);
}

#[test]
fn a_long_value_takes_as_little_memory_as_a_short_one_and_is_remembered_all_the_same() {
    let selector = selector();
    let names = names(4);
    let (before, after) = (
        candidates(&selector, &names[..2]),
        candidates(&selector, &names),
    );
    let long = |n: usize| format!("{}{n}", "x".repeat(200_000));
    let empty = selector.sticky().bytes();
    let first: Vec<_> = (0..200)
        .map(|n| pick(&selector, &before, "f", &long(n), 0))
        .collect();
    let each = (selector.sticky().bytes() - empty) / 200;
    assert!(each < 300, "{each} bytes for each");
    assert_eq!(selector.sticky().len(), 200);
    for (n, first) in first.iter().enumerate() {
        assert_eq!(pick(&selector, &after, "f", &long(n), 0), *first);
        // The choice is that of the value and not of what it is remembered by: all gateways agree.
        assert_eq!(*first, rendezvous(&selector, &before, &long(n)));
    }
    assert_eq!(selector.sticky().len(), 200);
}

#[test]
fn an_unusable_or_unlisted_node_is_replaced_for_good() {
    let selector = selector();
    let names = names(3);
    let all = candidates(&selector, &names);
    let first = pick(&selector, &all, "f", "v", 0).unwrap();
    all.get(first).unwrap().drain();
    let second = pick(&selector, &all, "f", "v", 0).unwrap();
    assert_ne!(second, first);
    all.get(first).unwrap().undrain();
    assert_eq!(pick(&selector, &all, "f", "v", 0), Some(second));
    let refused = selector.pick(&all, &mode("f"), Some(b"v"), Nanos::ZERO, |i| i != second);
    assert_eq!(refused, Some(first));
    let others: Vec<String> = (0..3)
        .filter(|&i| i != first)
        .map(|i| names[i].clone())
        .collect();
    let third = pick(&selector, &candidates(&selector, &others), "f", "v", 0).unwrap();
    assert_eq!(
        pick(&selector, &all, "f", "v", 0).and_then(|i| all.name(i)),
        Some(others[third].as_str())
    );
    assert_eq!(selector.sticky().len(), 1);
}

#[test]
fn a_value_without_usable_nodes_keeps_its_memory() {
    let selector = selector();
    let names = names(4);
    let (before, after) = (
        candidates(&selector, &names[..2]),
        candidates(&selector, &names),
    );
    let value = moving_value(&selector, &before, &after);
    let first = pick(&selector, &before, "f", &value, 0).unwrap();
    let none = selector.pick(
        &after,
        &mode("f"),
        Some(value.as_bytes()),
        Nanos::ZERO,
        |_| false,
    );
    assert_eq!(none, None);
    assert_eq!(pick(&selector, &after, "f", &value, 0), Some(first));
}

#[test]
fn the_lifetime_counts_from_the_last_use() {
    let selector = limited(100, 10);
    let names = names(4);
    let (before, after) = (
        candidates(&selector, &names[..2]),
        candidates(&selector, &names),
    );
    let value = moving_value(&selector, &before, &after);
    let first = pick(&selector, &before, "f", &value, 1_000);
    assert_eq!(pick(&selector, &after, "f", &value, 1_099), first);
    assert_eq!(pick(&selector, &after, "f", &value, 1_198), first);
    assert_eq!(
        pick(&selector, &after, "f", &value, 1_100),
        first,
        "a clock that lags shortens nothing"
    );
    let in_between = pick(&selector, &after, "f", &value, 1_250);
    assert_eq!(in_between, first, "nor does it make the entry older");
    let fresh = rendezvous(&selector, &after, &value);
    assert_ne!(fresh, first);
    assert_eq!(pick(&selector, &after, "f", &value, 1_350), fresh);
    assert_eq!(selector.sticky().len(), 1);
}

#[test]
fn the_entry_used_least_recently_makes_room_also_when_the_table_is_sharded() {
    for max_entries in [3, 4_096, 5_000, 20_000] {
        let selector = limited(u64::MAX, max_entries);
        let names = names(2);
        let (one, two) = (
            candidates(&selector, &names[..1]),
            candidates(&selector, &names),
        );
        // Values that go to the second node unless the first is remembered.
        let all = (0..).map(|i| format!("v{i}"));
        let mut values = all.filter(|value| rendezvous(&selector, &two, value) == Some(1));
        let mut now = 0;
        let mut use_now = |list: &Candidates, value: &str| {
            now += 1;
            pick(&selector, list, "f", value, now)
        };
        let old: Vec<String> = values.by_ref().take(max_entries).collect();
        let newcomers: Vec<String> = values.take(2).collect();
        let uses = old.iter().chain([&old[0]]).chain(&newcomers);
        uses.for_each(|value| assert_eq!(use_now(&one, value), Some(0)));
        assert_eq!(selector.sticky().len(), max_entries);
        let kept = old[3..].iter().chain([&old[0]]).chain(&newcomers);
        kept.for_each(|value| {
            assert_eq!(use_now(&two, value), Some(0), "{value} of {max_entries}")
        });
        for value in &old[1..3] {
            assert_eq!(use_now(&two, value), Some(1), "{value} of {max_entries}");
        }
        assert_eq!(selector.sticky().len(), max_entries);
    }
}

#[test]
fn cleanup_takes_the_oldest_in_slices_and_gives_memory_back() {
    for max_entries in [4_000, 50_000] {
        let selector = limited(1_000_000, max_entries);
        let candidates = candidates(&selector, &names(3));
        let empty = selector.sticky().bytes();
        for i in 0..3_000 {
            pick(&selector, &candidates, "f", &format!("value{i}"), i);
        }
        let full = selector.sticky().bytes();
        assert!(full > empty + 3_000 * 80);
        assert_eq!(selector.sticky().sweep(Nanos(999_999), 10_000), 0);
        assert_eq!(selector.sticky().sweep(Nanos(1_000_999), 10_000), 1_000);
        assert_eq!(selector.sticky().sweep(Nanos(2_000_000), 300), 300);
        assert_eq!(selector.sticky().len(), 1_700);
        assert_eq!(selector.sticky().sweep(Nanos(2_000_000), 10_000), 1_700);
        assert!(selector.sticky().is_empty());
        assert_eq!(selector.sticky().sweep(Nanos(u64::MAX), 10), 0);
        assert_eq!(selector.sticky().bytes(), empty);
    }
}

#[test]
fn new_limits_apply_at_once_and_cleanup_enforces_them() {
    let selector = limited(1_000, 100);
    let candidates = candidates(&selector, &names(3));
    for i in 0..100 {
        pick(&selector, &candidates, "f", &i.to_string(), i);
    }
    let limits = StickyLimits {
        ttl: Nanos(500),
        max_entries: 40,
    };
    selector.sticky().set_limits(limits);
    assert_eq!(selector.sticky().limits(), limits);
    assert_eq!(selector.sticky().sweep(Nanos(500), 50), 50);
    assert_eq!(selector.sticky().sweep(Nanos(500), 50), 10);
    assert_eq!(selector.sticky().len(), 40);
    selector.sticky().set_limits(StickyLimits {
        max_entries: 0,
        ..limits
    });
    assert!(pick(&selector, &candidates, "f", "new", 500).is_some());
    assert_eq!(selector.sticky().sweep(Nanos(500), 50), 40);
}

#[test]
fn a_table_of_no_entries_is_rendezvous() {
    let selector = limited(1_000, 0);
    let candidates = candidates(&selector, &names(3));
    for value in ["a", "b", "c"] {
        assert_eq!(
            pick(&selector, &candidates, "f", value, 0),
            rendezvous(&selector, &candidates, value)
        );
    }
    assert!(selector.sticky().is_empty());
}

#[test]
fn remembered_nodes_are_not_pruned_from_under_their_values() {
    let selector = selector();
    let names = names(4);
    let after = candidates(&selector, &names).clone();
    let value = moving_value(&selector, &candidates(&selector, &names[..2]), &after);
    drop(after);
    let first = pick(
        &selector,
        &candidates(&selector, &names[..2]),
        "f",
        &value,
        0,
    );
    selector.registry().prune(Nanos::ZERO);
    assert_eq!(selector.registry().len(), 1);
    assert_eq!(
        pick(&selector, &candidates(&selector, &names), "f", &value, 0),
        first
    );
}

#[test]
fn a_node_remembered_by_another_caller_in_the_middle_of_a_pick_is_kept() {
    let selector = selector();
    let candidates = candidates(&selector, &names(3));
    let first = rendezvous(&selector, &candidates, "v").unwrap();
    let other = (first + 1) % 3;
    let key = Some(b"v".as_slice());
    let interfered = Cell::new(false);
    let interfere = |_| {
        if !interfered.replace(true) {
            let pick = selector.pick(&candidates, &mode("f"), key, Nanos(0), |i| i == other);
            assert_eq!(pick, Some(other));
        }
        true
    };
    let pick = selector.pick(&candidates, &mode("f"), key, Nanos(0), interfere);
    assert_eq!(pick, Some(other));
}

#[test]
fn threads_that_fight_over_values_never_exceed_the_limit_nor_lose_count() {
    for max_entries in [50, 5_000] {
        let selector = limited(u64::MAX, max_entries);
        let candidates = candidates(&selector, &names(5));
        let barrier = Barrier::new(4);
        thread::scope(|scope| {
            for thread in 0..4 {
                let (selector, candidates, barrier) = (&selector, &candidates, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for i in 0..10_000u64 {
                        // Each thread refuses a node of its own, so they fight over the memory.
                        let value = (i % 7_000).to_string();
                        let usable = |at| at != thread;
                        let pick = selector.pick(
                            candidates,
                            &mode("f"),
                            Some(value.as_bytes()),
                            Nanos(i),
                            usable,
                        );
                        assert!(pick.is_some_and(usable));
                        assert!(selector.sticky().len() <= max_entries);
                    }
                });
            }
        });
        let left = selector.sticky().len();
        // Callers that meet at one new value all make room, and only one of them needs it.
        assert!(left <= max_entries && left > max_entries - 4, "{left}");
        let limits = StickyLimits {
            ttl: Nanos(1),
            max_entries,
        };
        selector.sticky().set_limits(limits);
        assert_eq!(selector.sticky().sweep(Nanos::MAX, usize::MAX), left);
        assert!(candidates.iter().all(|node| Arc::strong_count(node) == 2));
    }
}

/// The table as the contract words it: a list, the most recent use last.
struct Model {
    limits: StickyLimits,
    entries: VecDeque<(String, String, u64)>,
}

impl Model {
    /// `usable`: names of the usable candidates; `choice`: the rendezvous choice among them.
    fn pick(
        &mut self,
        value: &str,
        now: u64,
        usable: &[&str],
        choice: Option<&str>,
    ) -> Option<String> {
        let at = self.entries.iter().position(|entry| entry.0 == value);
        let entry = at.and_then(|at| self.entries.remove(at));
        let alive = entry.filter(|entry| now - entry.2 < self.limits.ttl.0);
        let remembered = alive.map(|entry| entry.1);
        let kept = remembered
            .clone()
            .filter(|name| usable.contains(&name.as_str()));
        let result = kept.or(choice.map(str::to_owned));
        if let Some(name) = result.clone().or(remembered) {
            self.entries.push_back((value.to_owned(), name, now));
            if self.entries.len() > self.limits.max_entries {
                self.entries.pop_front();
            }
        }
        result
    }
}

proptest! {
    #[test]
    fn the_table_behaves_like_a_plain_list(
        max_entries in prop_oneof![1..12usize, Just(5_000)],
        steps in prop::collection::vec(
            (0..3usize, 0..2usize, 0..20usize, 0..40u64, prop::array::uniform6(any::<bool>())),
            1..300,
        ),
    ) {
        let selector = limited(200, max_entries);
        let names = names(6);
        let mut backwards = names.clone();
        backwards.reverse();
        let lists = [
            candidates(&selector, &names),
            candidates(&selector, &backwards),
            candidates(&selector, &names[..3]),
        ];
        let mut model = Model { limits: selector.sticky().limits(), entries: VecDeque::new() };
        let mut now = 0;
        for (list, function, value, pause, usable) in steps {
            now += pause;
            let (list, function, value) = (&lists[list], ["f", "g"][function], value.to_string());
            let ordered = |mode: &Mode| {
                let key = Some(value.as_bytes());
                let order = selector.order(list, mode, key, Nanos(now), |i| usable[i]);
                order.iter().map(|&i| list.name(i as usize).unwrap()).collect::<Vec<_>>()
            };
            let mut rest = ordered(&Mode::Rendezvous);
            let order = ordered(&mode(function));
            let expected =
                model.pick(&format!("{function} {value}"), now, &rest, rest.first().copied());
            prop_assert_eq!(order.first().copied(), expected.as_deref());
            rest.retain(|name| Some(*name) != expected.as_deref());
            prop_assert_eq!(order.get(1..).unwrap_or_default(), rest);
        }
        prop_assert!(selector.sticky().len() <= max_entries);
    }
}
