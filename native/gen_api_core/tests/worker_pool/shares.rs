//! How many tasks of a pool one caller may have.

use gen_api_core::breaker::Settings;
use gen_api_core::clock::Nanos;
use gen_api_core::worker_pool::{Entry, Kind, Name, Refusal, Slot, TaskResult, WorkerPool};
use proptest::prelude::*;

const NOW: Nanos = Nanos(1);

type Pool = WorkerPool<u32, ()>;

fn pool(size: u32, queue: u32) -> Pool {
    let pool = Pool::new(size, queue, Settings::default());
    pool.set_server(0);
    pool
}

fn admit(pool: &Pool, name: Name<'_>, most: u32) -> Result<Slot<u32, ()>, Refusal> {
    pool.admit_for(Some((name, most)), Kind::Uncounted, None, || None, NOW)
}

#[test]
fn a_caller_has_at_most_its_share_of_slots_and_queue_and_others_are_not_concerned() {
    let pool = pool(2, 10);
    let ann = |n| admit(&pool, Name::User(b"ann"), n);
    let slots: Vec<_> = (0..3).map(|_| ann(3).unwrap()).collect();
    assert_eq!(ann(3).unwrap_err(), Refusal::ShareTaken);
    assert!(admit(&pool, Name::User(b"bob"), 3).is_ok());
    let nobody = pool.admit(Kind::Uncounted, None, || None, NOW);
    assert!(nobody.is_ok());
    let _effects = pool.leave(&slots[2], TaskResult::Returned, NOW);
    assert!(ann(3).is_ok());
}

#[test]
fn addresses_of_one_customer_are_one_caller_and_no_user() {
    let pool = pool(10, 0);
    let _first = admit(&pool, Name::Address(b"2001:db8::1", 64), 1).unwrap();
    let second = admit(&pool, Name::Address(b"2001:DB8:0:0::2", 64), 1);
    assert_eq!(second.unwrap_err(), Refusal::ShareTaken);
    assert!(admit(&pool, Name::Address(b"2001:db8:0:1::1", 64), 1).is_ok());
    assert!(admit(&pool, Name::User(b"2001:db8::1"), 1).is_ok());
    let _odd = admit(&pool, Name::Address(b"no address", 64), 1).unwrap();
    assert!(admit(&pool, Name::Address(b"no address", 64), 1).is_err());
}

#[test]
fn a_refused_task_takes_nothing_of_a_share() {
    let pool = pool(1, 0);
    let _running = admit(&pool, Name::User(b"ann"), 5).unwrap();
    for _ in 0..10 {
        let refused = admit(&pool, Name::User(b"bob"), 5).unwrap_err();
        assert_eq!(refused, Refusal::QueueFull);
    }
    assert_eq!(pool.callers(), 1);
}

proptest! {
    #[test]
    fn whatever_becomes_of_tasks_their_callers_get_their_shares_back(
        steps in prop::collection::vec((0_u8..3, 0_u8..5, any::<prop::sample::Index>()), 1..200),
    ) {
        let pool = pool(3, 5);
        let mut slots: Vec<(u8, Slot<u32, ()>)> = Vec::new();
        for (process, (user, step, which)) in (1..).zip(steps) {
            if step < 2 {
                match admit(&pool, Name::User(&[user]), 3) {
                    Ok(slot) => slots.push((user, slot)),
                    Err(Refusal::ShareTaken) => {
                        prop_assert_eq!(slots.iter().filter(|(of, _)| *of == user).count(), 3);
                    }
                    Err(refused) => prop_assert_eq!(refused, Refusal::QueueFull),
                }
            } else if !slots.is_empty() {
                let at = which.index(slots.len());
                let (_, slot) = &slots[at];
                let ended = match step {
                    // Entering for a second time ends it.
                    2 => pool.enter(slot, process, false, 0, NOW).0 == Entry::Gone,
                    3 => {
                        let _effects = pool.leave(slot, TaskResult::Answered, NOW).1;
                        true
                    }
                    _ => {
                        let _effects = pool.lost(slot, NOW);
                        true
                    }
                };
                if ended {
                    slots.remove(at);
                }
            }
        }
        for (_, slot) in &slots {
            let _effects = pool.lost(slot, NOW);
        }
        prop_assert_eq!(pool.callers(), 0);
    }
}
