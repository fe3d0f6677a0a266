use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{Cursor, Cursors, Mode};
use proptest::prelude::*;

use super::{candidates, names, selector};

#[test]
fn threads_that_pick_at_the_same_time_share_the_turns_out_exactly() {
    let selector = selector();
    let count = 7;
    let candidates = candidates(&selector, &names(count));
    candidates.get(2).unwrap().mark_down();
    candidates.get(3).unwrap().drain();
    // Near the point where the cursor is set back, so that this happens in the middle.
    for start in [0, (1 << 63) - 5_000, u64::MAX - 1_000_000] {
        let mode = Mode::RoundRobin(Arc::new(Cursor::starting_at(start)));
        let (threads, rounds) = (4, 5_000);
        let barrier = Barrier::new(threads);
        let total = Mutex::new(vec![0; count]);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut hits = vec![0; count];
                    barrier.wait();
                    for _ in 0..rounds {
                        let pick = selector.pick(&candidates, &mode, None, Nanos::ZERO, |i| i != 6);
                        hits[pick.unwrap()] += 1;
                    }
                    let mut total = total.lock().unwrap();
                    total
                        .iter_mut()
                        .zip(hits)
                        .for_each(|(sum, hits)| *sum += hits);
                });
            }
        });
        assert_eq!(
            *total.lock().unwrap(),
            [5_000, 5_000, 0, 0, 5_000, 5_000, 0]
        );
    }
}

#[test]
fn a_node_that_goes_down_in_mid_pick_does_not_hand_its_turn_on() {
    let selector = selector();
    let candidates = candidates(&selector, &names(3));
    let mode = Mode::RoundRobin(Arc::new(Cursor::starting_at(1)));
    let asked = AtomicBool::new(false);
    // Usable when asked first, unusable ever after.
    let pick = selector.pick(&candidates, &mode, None, Nanos::ZERO, |i| {
        i != 1 || !asked.swap(true, Relaxed)
    });
    assert_eq!(pick, Some(1));
}

#[test]
fn functions_have_cursors_of_their_own_that_survive_and_reset() {
    let selector = selector();
    let candidates = candidates(&selector, &names(3));
    let pick = |function: &[u8]| {
        let mode = Mode::RoundRobin(selector.cursor(function));
        selector
            .pick(&candidates, &mode, None, Nanos::ZERO, |_| true)
            .unwrap()
    };
    assert_eq!(
        [pick(b"f"), pick(b"f"), pick(b"g"), pick(b"f"), pick(b"f")],
        [0, 1, 0, 2, 0]
    );
    selector.reset_round_robin();
    assert_eq!([pick(b"f"), pick(b"g")], [0, 0]);
}

#[test]
fn the_cursor_asked_for_least_recently_is_forgotten_first() {
    let cursors = Cursors::new(2);
    let (f, g) = (cursors.cursor(b"f"), cursors.cursor(b"g"));
    assert!(Arc::ptr_eq(&f, &cursors.cursor(b"f")));
    cursors.cursor(b"h");
    assert_eq!(cursors.len(), 2);
    assert!(Arc::ptr_eq(&f, &cursors.cursor(b"f")));
    assert!(!Arc::ptr_eq(&g, &cursors.cursor(b"g")));
    assert!(cursors.bytes() > 0);
}

#[test]
fn nothing_usable_is_nothing_picked() {
    let selector = selector();
    let mode = Mode::RoundRobin(selector.cursor(b"f"));
    let three = candidates(&selector, &names(3));
    assert_eq!(
        selector.pick(&three, &mode, None, Nanos::ZERO, |_| false),
        None
    );
    assert_eq!(
        selector.pick(
            &candidates(&selector, &[]),
            &mode,
            None,
            Nanos::ZERO,
            |_| true
        ),
        None
    );
    assert!(selector
        .order(&three, &mode, None, Nanos::ZERO, |_| false)
        .is_empty());
}

proptest! {
    #[test]
    fn any_n_consecutive_turns_visit_n_nodes(
        start in prop_oneof![any::<u64>(), (1u64 << 63) - 50..(1 << 63) + 50, u64::MAX - 50..=u64::MAX - 1],
        n in 1u64..40,
    ) {
        let cursor = Cursor::starting_at(start);
        let turns: Vec<u64> = (0..3 * n).map(|_| cursor.turn(n)).collect();
        for pair in turns.windows(2) {
            prop_assert_eq!(pair[1], (pair[0] + 1) % n);
        }
    }

    #[test]
    fn order_is_a_rotation_of_the_usable_ones_one_further_each_time(
        usable in prop::collection::vec(any::<bool>(), 1..150),
        start in any::<u32>(),
    ) {
        let selector = selector();
        let candidates = candidates(&selector, &names(usable.len()));
        let mode = Mode::RoundRobin(Arc::new(Cursor::starting_at(u64::from(start))));
        let listed: Vec<u32> = (0..usable.len() as u32).filter(|&i| usable[i as usize]).collect();
        for turn in 0..listed.len() {
            let mut expected = listed.clone();
            expected.rotate_left((start as usize + turn) % listed.len());
            if turn % 2 == 0 {
                let order = selector.order(&candidates, &mode, None, Nanos::ZERO, |i| usable[i]);
                prop_assert_eq!(order.as_slice(), expected.as_slice());
            } else {
                let pick = selector.pick(&candidates, &mode, None, Nanos::ZERO, |i| usable[i]);
                prop_assert_eq!(pick, Some(expected[0] as usize));
            }
        }
    }
}
