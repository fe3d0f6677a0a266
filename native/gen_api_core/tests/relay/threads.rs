//! Many threads at once.

use super::device;
use gen_api_core::clock::Nanos;
use gen_api_core::relay::{Bounds, Created, GroupType, Moderation, Refusal, Relay};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

const THREADS: u64 = 8;
const ROUNDS: u64 = 3_000;

#[test]
fn threads_that_join_leave_publish_and_die_leave_an_exact_index_and_no_entries() {
    let relay: Arc<Relay<u64>> = Arc::new(Relay::new(Bounds::default()));
    let start = Arc::new(Barrier::new(THREADS as usize));
    let threads = (0..THREADS).map(|thread| {
        let (relay, start) = (Arc::clone(&relay), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            for round in 0..ROUNDS {
                let group = format!("g{}", round % 7);
                let user = format!("u{}", (round + thread) % 13);
                // Never the device of another thread: a device ends once.
                let id = thread * ROUNDS + round;
                let _ = relay.create(
                    &group,
                    GroupType::StrictPrivate,
                    &user,
                    device(id),
                    Created::default(),
                );
                let _ = relay.join(&group, &user, device(id), round);
                let _ = relay.moderate(&group, Moderation::Accept, "u1", &user, round);
                let _ = relay.publish(&group, Some(&user), Nanos::ZERO);
                match round % 5 {
                    0 => drop(relay.leave(&group, &user, round)),
                    1 => drop(relay.leave_device(&group, &user, id, round)),
                    2 if round % 97 == 2 => drop(relay.delete(&group)),
                    3 => drop(relay.moderate(&group, Moderation::Kick, "u1", &user, round)),
                    _ => {}
                }
                if round >= 50 {
                    relay.remove_device(id - 50, round);
                }
            }
            for id in thread * ROUNDS..(thread + 1) * ROUNDS {
                relay.remove_device(id, ROUNDS);
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
    relay.verify();
    let size = relay.size();
    assert_eq!((size.members, size.devices), (0, 0));
    for group in 0..7 {
        let _ = relay.delete(&format!("g{group}"));
    }
    let size = relay.size();
    assert_eq!((size.groups, size.users), (0, 0));
}

#[test]
fn of_many_who_create_a_group_at_once_one_does() {
    for round in 0..200 {
        let relay: Arc<Relay<u64>> = Arc::new(Relay::new(Bounds::default()));
        let start = Arc::new(Barrier::new(4));
        let threads = (0..4).map(|thread| {
            let (relay, start) = (Arc::clone(&relay), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                let user = format!("u{thread}");
                relay.create(
                    "g",
                    GroupType::Public,
                    &user,
                    device(thread),
                    Created::default(),
                )
            })
        });
        let won: Vec<_> = threads
            .collect::<Vec<_>>()
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .filter(|outcome| *outcome != Err(Refusal::AlreadyExists))
            .collect();
        assert_eq!(won, [Ok(true)], "round {round}");
        assert_eq!(relay.size().users, 1);
    }
}

#[test]
fn a_message_misses_no_member_who_stays_while_others_come_and_go() {
    let relay: Arc<Relay<u64>> = Arc::new(Relay::new(Bounds::default()));
    let created = Created::default();
    relay
        .create("g", GroupType::Public, "root", device(0), created)
        .unwrap();
    for id in 1..3_000 {
        relay
            .join("g", &format!("stays {id}"), device(id), 0)
            .unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let churn = (0..2).map(|thread| {
        let (relay, stop) = (Arc::clone(&relay), Arc::clone(&stop));
        thread::spawn(move || {
            let mut id = 10_000 + thread * 1_000_000;
            while !stop.load(Ordering::Relaxed) {
                let user = format!("goes {id}");
                relay.join("g", &user, device(id), 0).unwrap();
                relay.remove_device(id - id % 3, 0);
                relay.remove_device(id, 0);
                id += 1;
            }
        })
    });
    let churn: Vec<_> = churn.collect();
    for _ in 0..300 {
        let fan = relay.publish("g", Some("root"), Nanos::ZERO).unwrap();
        let to: Vec<u64> = (0..fan.recipients.len())
            .step_by(100)
            .flat_map(|start| fan.recipients.slice(start, 100))
            .map(|recipient| recipient.to)
            .collect();
        let once: HashSet<u64> = to.iter().copied().collect();
        assert_eq!(once.len(), to.len());
        assert!((1_000..4_000).all(|to| once.contains(&to)));
    }
    stop.store(true, Ordering::Relaxed);
    for thread in churn {
        thread.join().unwrap();
    }
    relay.verify();
}
