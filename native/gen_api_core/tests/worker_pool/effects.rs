//! What the steps of tasks have others do: whom to wake, what to send, and when the server has to look.

use gen_api_core::breaker::{Settings, Transition};
use gen_api_core::clock::Nanos;
use gen_api_core::worker_pool::{
    Cause, Circuit, Effects, Entry, Kind, Left, Notice, OnDeath, Refusal, Slot, TaskResult, Work,
    WorkerPool,
};

const NOW: Nanos = Nanos::ZERO;
const SERVER: u32 = 100;

type Pool = WorkerPool<u32, &'static str>;

fn pool(size: u32, max_waiting: u32) -> Pool {
    let pool = Pool::new(size, max_waiting, Settings::default());
    pool.set_server(SERVER);
    pool
}

fn admit(pool: &Pool, to: Option<u32>) -> Slot<u32, &'static str> {
    let message = "it died";
    let on_death = || Some(OnDeath { to, message });
    pool.admit(Kind::Uncounted, None, on_death, NOW).unwrap()
}

fn enter(pool: &Pool, slot: &Slot<u32, &'static str>, process: u32) -> Entry {
    let (entry, effects) = pool.enter(slot, process, false, i64::from(process), NOW);
    assert_eq!(effects, nothing());
    entry
}

fn nothing() -> Effects<u32, &'static str> {
    Effects {
        wake: [None, None],
        send: None,
        notify: None,
    }
}

fn looked(pool: &Pool) -> (Vec<u32>, Vec<Notice<&'static str>>) {
    let Work { kill, notices, .. } = pool.take_work(NOW);
    (kill, notices)
}

fn killed(started: i64, cause: Option<Cause>) -> Notice<&'static str> {
    Notice::Killed {
        started,
        cause,
        transition: Transition::None,
    }
}

#[test]
fn a_pool_is_open_while_it_has_a_server() {
    let pool = Pool::new(1, 0, Settings::default());
    let refused = || {
        pool.admit(Kind::Counted, None, || panic!("nobody is told"), NOW)
            .unwrap_err()
    };
    assert_eq!(refused(), Refusal::Closed);
    pool.set_server(SERVER);
    pool.server_exited(SERVER + 1);
    let first = admit(&pool, None);
    assert_eq!(refused(), Refusal::QueueFull);
    pool.server_exited(SERVER);
    assert_eq!(refused(), Refusal::Closed);
    // Another one may have come before the end of the first is heard of.
    pool.set_server(SERVER + 2);
    pool.server_exited(SERVER);
    let _ = pool.lost(&first, NOW);
    admit(&pool, None);
    assert_eq!(pool.stop(), (vec![], vec![]));
    assert_eq!(refused(), Refusal::Closed);
}

#[test]
fn what_is_to_be_sent_if_a_task_dies_is_sent_once_and_only_if_it_does() {
    for (result, sent) in [
        (TaskResult::Returned, None),
        (TaskResult::Failed, Some((7, "it died"))),
        (TaskResult::Answered, None),
    ] {
        let pool = pool(1, 0);
        let slot = admit(&pool, Some(7));
        assert_eq!(enter(&pool, &slot, 1), Entry::Run);
        let (left, effects) = pool.leave(&slot, result, NOW);
        assert_eq!(left, Left::Ended(Transition::None));
        assert_eq!(effects.send, sent);
        assert_eq!(pool.ended(&slot, 1, NOW), nothing());
        assert_eq!(pool.lost(&slot, NOW), nothing());
        assert_eq!(looked(&pool), (vec![], vec![]));
    }
}

#[test]
fn a_task_that_never_began_is_told_of_however_it_ended() {
    let pool = pool(1, 1);
    let (first, second) = (admit(&pool, Some(7)), admit(&pool, Some(8)));
    let effects = pool.lost(&second, NOW);
    assert_eq!(effects.send, Some((8, "it died")));
    // Its slot was granted, and its process had not come.
    let (_, effects) = pool.leave(&first, TaskResult::Returned, NOW);
    assert_eq!(effects.send, Some((7, "it died")));
}

#[test]
fn the_server_sends_to_other_nodes_and_is_told_once_until_it_looks() {
    let pool = pool(3, 0);
    let slots = [(); 3].map(|()| admit(&pool, None));
    let notified: Vec<_> = slots
        .iter()
        .map(|slot| pool.lost(slot, NOW))
        .map(|effects| (effects.send, effects.notify))
        .collect();
    assert_eq!(notified, [(None, Some(SERVER)), (None, None), (None, None)]);
    let notice = || Notice::Message("it died");
    assert_eq!(looked(&pool), (vec![], vec![notice(), notice(), notice()]));
    assert_eq!(looked(&pool), (vec![], vec![]));
    let effects = pool.lost(&admit(&pool, None), NOW);
    assert_eq!(effects.notify, Some(SERVER));
}

#[test]
fn without_a_server_notices_wait_for_the_next_one() {
    let pool = pool(1, 0);
    let slot = admit(&pool, None);
    pool.server_exited(SERVER);
    assert_eq!(pool.lost(&slot, NOW), nothing());
    pool.set_server(SERVER + 1);
    assert_eq!(looked(&pool).1, [Notice::Message("it died")]);
}

#[test]
fn a_process_that_is_killed_hands_its_slot_on_and_the_server_tells_of_it() {
    let pool = pool(1, 1);
    let (first, second) = (admit(&pool, Some(7)), admit(&pool, None));
    enter(&pool, &first, 1);
    enter(&pool, &second, 2);
    let effects = pool.ended(&first, 1, NOW);
    assert_eq!(effects.wake, [Some(2), None]);
    assert_eq!(effects.send, Some((7, "it died")));
    assert_eq!(effects.notify, Some(SERVER));
    assert_eq!(looked(&pool), (vec![], vec![killed(1, None)]));
}

#[test]
fn a_process_that_ends_before_its_turn_is_no_news() {
    let pool = pool(1, 1);
    let (first, second) = (admit(&pool, None), admit(&pool, Some(8)));
    enter(&pool, &first, 1);
    enter(&pool, &second, 2);
    let effects = pool.ended(&second, 2, NOW);
    assert_eq!(effects.send, Some((8, "it died")));
    assert_eq!((effects.wake, effects.notify), ([None, None], None));
    assert_eq!(pool.status(NOW).waiting, 0);
}

#[test]
fn a_task_whose_owner_dies_is_killed_if_it_runs_and_let_go_if_it_waits() {
    let pool = pool(1, 1);
    let (runs, waits) = (admit(&pool, Some(7)), admit(&pool, Some(8)));
    for (slot, owner) in [(&runs, 11), (&waits, 12)] {
        slot.set_owner(owner);
    }
    enter(&pool, &runs, 1);
    enter(&pool, &waits, 2);

    let effects = pool.ended(&waits, 12, NOW);
    assert_eq!(effects.wake, [None, Some(2)]);
    assert_eq!(effects.send, Some((8, "it died")));
    assert_eq!(enter(&pool, &waits, 2), Entry::Gone);

    let effects = pool.ended(&runs, 11, NOW);
    assert_eq!((effects.send, effects.notify), (None, Some(SERVER)));
    assert_eq!(looked(&pool), (vec![1], vec![]));
    let effects = pool.ended(&runs, 1, NOW);
    assert_eq!(effects.send, Some((7, "it died")));
    let cause = Some(Cause::OwnerDied);
    assert_eq!(looked(&pool), (vec![], vec![killed(1, cause)]));
}

#[test]
fn a_task_without_an_owner_left_does_not_begin() {
    let pool = pool(1, 1);
    let (first, second) = (admit(&pool, Some(7)), admit(&pool, Some(8)));
    let (entry, effects) = pool.enter(&first, 1, true, 0, NOW);
    assert_eq!((entry, effects), (Entry::Orphaned, nothing()));
    let (entry, effects) = pool.enter(&second, 2, true, 0, NOW);
    assert_eq!(entry, Entry::Gone);
    assert_eq!(effects.send, Some((8, "it died")));
    // The first has its slot, to say how it failed.
    let (_, effects) = pool.leave(&first, TaskResult::Failed, NOW);
    assert_eq!(effects.send, Some((7, "it died")));
    assert_eq!((pool.status(NOW).failed, pool.status(NOW).running), (1, 0));
}

#[test]
fn who_leaves_after_it_was_to_be_killed_leaves_the_notice_to_the_server() {
    let pool = pool(1, 0);
    let slot = admit(&pool, Some(7));
    slot.set_owner(11);
    enter(&pool, &slot, 1);
    let _ = pool.ended(&slot, 11, NOW);
    let (left, effects) = pool.leave(&slot, TaskResult::Returned, NOW);
    assert_eq!(left, Left::Killed);
    // It has returned: nothing is sent. The server has been told already.
    assert_eq!((effects.send, effects.notify), (None, None));
    let cause = Some(Cause::OwnerDied);
    assert_eq!(looked(&pool), (vec![], vec![killed(1, cause)]));
}

#[test]
fn a_deadline_that_comes_first_has_the_server_look() {
    let pool = pool(2, 0);
    let due = |at| {
        pool.admit(Kind::Uncounted, Some(Nanos(at)), || None, NOW)
            .unwrap()
    };
    let (late, early) = (due(20), due(10));
    assert_eq!(pool.enter(&late, 1, false, 0, NOW).1.notify, Some(SERVER));
    assert_eq!(pool.take_work(NOW).next, Some(Nanos(20)));
    assert_eq!(pool.enter(&early, 2, false, 0, NOW).1.notify, Some(SERVER));
    let work = pool.take_work(Nanos(10));
    assert_eq!((work.kill, work.next), (vec![2], Some(Nanos(20))));
}

#[test]
fn a_circuit_that_is_tried_lets_through_what_does_not_count() {
    let settings = Settings {
        threshold: 1,
        cooldown: Nanos(10),
        ..Settings::default()
    };
    let pool = Pool::new(2, 0, settings);
    pool.set_server(SERVER);
    assert_eq!(pool.status(NOW).circuit, Circuit::Closed);
    let counted = || pool.admit(Kind::Counted, None, || None, NOW);
    let slot = counted().unwrap();
    enter(&pool, &slot, 1);
    let (left, _) = pool.leave(&slot, TaskResult::Failed, NOW);
    let opened = Transition::Opened { failures: 1 };
    assert_eq!(left, Left::Ended(opened));
    assert_eq!(pool.status(NOW).circuit, Circuit::Open);
    assert_eq!(counted().unwrap_err(), Refusal::CircuitOpen);
    let later = Nanos(1 << 20);
    assert_eq!(pool.status(later).circuit, Circuit::Probing);
    assert!(pool.admit(Kind::Uncounted, None, || None, later).is_ok());
}
