//! Calls that begin, end and are revoked, in any order and many at once.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gen_api_core::callees::{Callees, Key};
use gen_api_core::clock::Nanos;
use proptest::prelude::*;

const NOW: Nanos = Nanos::from_secs(1_000);

fn callees(shards: usize, revoked_per_shard: usize) -> Arc<Callees<u32>> {
    Arc::new(Callees::with_shape(shards, revoked_per_shard))
}

#[test]
fn a_call_is_found_by_its_key_until_it_ends() {
    let callees = callees(16, 10);
    let (first, second) = (Key(1, 1), Key(2, 1));
    let running = callees.enter(first, 11);
    let other = callees.enter(second, 12);
    assert_eq!(running.as_ref().unwrap().key(), first);
    assert_eq!(callees.revoke(first, NOW), Some(11));
    assert_eq!(callees.revoke(first, NOW), Some(11));
    assert_eq!(callees.size(), (2, 0));
    drop(running);
    assert_eq!(callees.revoke(second, NOW), Some(12));
    drop(other);
    assert_eq!(callees.size(), (0, 0));
}

#[test]
fn a_revoked_call_never_begins_and_is_forgotten_when_it_has_come() {
    let callees = callees(16, 10);
    assert_eq!(callees.revoke(Key(1, 1), NOW), None);
    assert_eq!(callees.size(), (0, 1));
    assert!(callees.enter(Key(1, 1), 1).is_none());
    assert_eq!(callees.size(), (0, 0));
}

#[test]
fn of_too_many_revoked_calls_the_first_are_forgotten() {
    let callees = callees(1, 3);
    for number in 0..5 {
        callees.revoke(Key(1, number), NOW);
    }
    assert_eq!(callees.size(), (0, 3));
    let begins = |number| callees.enter(Key(1, number), 1).is_some();
    assert_eq!(
        [0, 1, 2, 3, 4].map(begins),
        [true, true, false, false, false]
    );
}

#[test]
fn a_revoked_call_is_forgotten_after_a_minute() {
    let callees = callees(1, 10);
    callees.revoke(Key(1, 1), NOW);
    callees.revoke(Key(1, 2), NOW.saturating_add(Nanos::from_secs(59)));
    assert_eq!(callees.size(), (0, 2));
    callees.revoke(Key(1, 3), NOW.saturating_add(Nanos::from_secs(60)));
    assert_eq!(callees.size(), (0, 2));
    assert!(callees.enter(Key(1, 1), 1).is_some());
    assert!(callees.enter(Key(1, 2), 1).is_none());
}

#[test]
fn revoking_again_counts_from_the_last_time() {
    let callees = callees(1, 2);
    for number in [1, 2, 1, 3] {
        callees.revoke(Key(1, number), NOW);
    }
    assert!(callees.enter(Key(1, 2), 1).is_some());
    assert!(callees.enter(Key(1, 1), 1).is_none());
}

#[test]
fn threads_leave_nothing_behind() {
    let callees = callees(4, 1_000);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let callees = &callees;
            scope.spawn(move || {
                for number in 0..20_000 {
                    let key = Key(number % 7, thread);
                    match callees.enter(key, thread as u32) {
                        Some(callee) if number % 3 == 0 => {
                            assert_eq!(callees.revoke(key, NOW), Some(thread as u32));
                            drop(callee);
                        }
                        Some(callee) => drop(callee),
                        None => assert_eq!(number % 5, 1, "nobody else revokes it"),
                    }
                    if number % 5 == 1 - 1 {
                        callees.revoke(Key((number + 1) % 7, thread), NOW);
                    }
                }
                for number in 0..7 {
                    drop(callees.enter(Key(number, thread), 0));
                }
            });
        }
    });
    assert_eq!(callees.size(), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Enter(u64),
    Leave(u64),
    Revoke(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..6u64;
    prop_oneof![
        key.clone().prop_map(Step::Enter),
        key.clone().prop_map(Step::Leave),
        key.prop_map(Step::Revoke),
    ]
}

proptest! {
    #[test]
    fn it_does_what_two_sets_do(steps in prop::collection::vec(step(), 0..200)) {
        let callees = callees(2, 100);
        let mut handles = HashMap::new();
        let mut revoked = HashSet::new();
        for step in steps {
            match step {
                // A key is used once at a time.
                Step::Enter(number) if !handles.contains_key(&number) => {
                    let entered = callees.enter(Key(9, number), number as u32);
                    prop_assert_eq!(entered.is_none(), revoked.remove(&number));
                    if let Some(callee) = entered {
                        handles.insert(number, callee);
                    }
                }
                Step::Enter(_) => {}
                Step::Leave(number) => drop(handles.remove(&number)),
                Step::Revoke(number) => {
                    let expected = handles.contains_key(&number).then_some(number as u32);
                    prop_assert_eq!(callees.revoke(Key(9, number), NOW), expected);
                    if expected.is_none() {
                        revoked.insert(number);
                    }
                }
            }
            prop_assert_eq!(callees.size(), (handles.len(), revoked.len()));
        }
    }
}
