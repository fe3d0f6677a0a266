//! Calls that begin, end and are revoked, in any order and many at once.

#![cfg(not(loom))]

use std::collections::HashSet;

use gen_api_core::call_table::{CallKey, CallTable};
use gen_api_core::clock::Nanos;
use proptest::prelude::*;

const NOW: Nanos = Nanos::from_secs(1_000);

fn alive(_process: u32) -> bool {
    true
}

#[test]
fn a_call_is_found_by_its_key_until_it_ends() {
    let calls = CallTable::with_shape(16, 10);
    let (first, second) = (CallKey(1, 1), CallKey(2, 1));
    assert!(calls.enter(first, 11, alive));
    assert!(calls.enter(second, 12, alive));
    assert_eq!(calls.size(alive), (2, 0));
    assert_eq!(calls.revoke(first, NOW), Some(11));
    assert_eq!(calls.size(alive), (1, 0));
    calls.leave(first);
    calls.leave(second);
    assert_eq!(calls.size(alive), (0, 0));
    assert_eq!(calls.revoke(second, NOW), None);
}

#[test]
fn a_revoked_call_never_begins_and_is_forgotten_when_it_has_come() {
    let calls = CallTable::with_shape(16, 10);
    assert_eq!(calls.revoke(CallKey(1, 1), NOW), None);
    assert_eq!(calls.size(alive), (0, 1));
    assert!(!calls.enter(CallKey(1, 1), 1, alive));
    assert_eq!(calls.size(alive), (0, 0));
}

#[test]
fn of_too_many_revoked_calls_the_first_are_forgotten() {
    let calls = CallTable::with_shape(1, 3);
    for number in 0..5 {
        calls.revoke(CallKey(1, number), NOW);
    }
    assert_eq!(calls.size(alive), (0, 3));
    let begins = |number| calls.enter(CallKey(1, number), 1, alive);
    assert_eq!(
        [0, 1, 2, 3, 4].map(begins),
        [true, true, false, false, false]
    );
}

#[test]
fn a_revoked_call_is_forgotten_after_a_minute() {
    let calls = CallTable::with_shape(1, 10);
    calls.revoke(CallKey(1, 1), NOW);
    calls.revoke(CallKey(1, 2), NOW.saturating_add(Nanos::from_secs(59)));
    assert_eq!(calls.size(alive), (0, 2));
    calls.revoke(CallKey(1, 3), NOW.saturating_add(Nanos::from_secs(60)));
    assert_eq!(calls.size(alive), (0, 2));
    assert!(calls.enter(CallKey(1, 1), 1, alive));
    assert!(!calls.enter(CallKey(1, 2), 1, alive));
}

#[test]
fn revoking_again_counts_from_the_last_time() {
    let calls = CallTable::with_shape(1, 2);
    for number in [1, 2, 1, 3] {
        calls.revoke(CallKey(1, number), NOW);
    }
    assert!(calls.enter(CallKey(1, 2), 1, alive));
    assert!(!calls.enter(CallKey(1, 1), 1, alive));
}

#[test]
fn rows_of_the_dead_stay_fewer_than_those_of_the_living_and_some() {
    let calls = CallTable::with_shape(1, 10);
    let looks = std::cell::Cell::new(0);
    // Of a thousand processes that never leave, those of the last hundred live.
    for number in 0..1_000_u32 {
        let alive = |process| {
            looks.set(looks.get() + 1);
            process + 100 > number
        };
        assert!(calls.enter(CallKey(1, u64::from(number)), number, alive));
    }
    assert!(looks.get() < 3_000, "{} looks", looks.get());
    let rows = (0..1_000).filter(|number| calls.revoke(CallKey(1, *number), NOW).is_some());
    let rows = rows.count();
    assert!((100..=200).contains(&rows), "{rows} rows");
}

#[test]
fn the_dead_are_not_counted() {
    let calls = CallTable::with_shape(4, 10);
    for number in 0..50 {
        assert!(calls.enter(CallKey(1, number), number as u32, alive));
    }
    assert_eq!(calls.size(|process| process % 2 == 0), (25, 0));
}

#[test]
fn threads_leave_nothing_behind() {
    let calls = CallTable::with_shape(4, 1_000);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let calls = &calls;
            scope.spawn(move || {
                for number in 0..20_000 {
                    let (early, late) =
                        (CallKey(thread, 2 * number), CallKey(thread, 2 * number + 1));
                    assert_eq!(calls.revoke(early, NOW), None);
                    assert!(!calls.enter(early, 1, alive));
                    assert!(calls.enter(late, number as u32, alive));
                    if number % 2 == 0 {
                        assert_eq!(calls.revoke(late, NOW), Some(number as u32));
                    }
                    calls.leave(late);
                }
            });
        }
    });
    assert_eq!(calls.size(alive), (0, 0));
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
        let calls = CallTable::with_shape(2, 100);
        let mut running = HashSet::new();
        let mut revoked = HashSet::new();
        for step in steps {
            match step {
                Step::Enter(number) => {
                    let entered = calls.enter(CallKey(9, number), number as u32, alive);
                    prop_assert_eq!(!entered, revoked.remove(&number));
                    if entered {
                        running.insert(number);
                    }
                }
                Step::Leave(number) => {
                    calls.leave(CallKey(9, number));
                    running.remove(&number);
                }
                Step::Revoke(number) => {
                    let expected = running.remove(&number).then_some(number as u32);
                    prop_assert_eq!(calls.revoke(CallKey(9, number), NOW), expected);
                    if expected.is_none() {
                        revoked.insert(number);
                    }
                }
            }
            prop_assert_eq!(calls.size(alive), (running.len(), revoked.len()));
        }
    }
}
