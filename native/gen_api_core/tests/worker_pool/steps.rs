//! Any order of steps: the cap, first come first served, and every slot comes back.

use std::collections::VecDeque;
use std::sync::Arc;

use gen_api_core::breaker::Settings;
use gen_api_core::clock::Nanos;
use gen_api_core::worker_pool::{Admission, Cause, End, Entry, Kind, Reached, Task, Tasks};
use proptest::prelude::*;
use proptest::sample::Index;

const NOW: Nanos = Nanos::ZERO;

fn pool(size: u32, max_waiting: u32) -> Tasks<usize> {
    // A circuit that never opens.
    let settings = Settings {
        threshold: u32::MAX,
        ..Settings::default()
    };
    Tasks::new(size, max_waiting, settings)
}

fn task(pool: &Tasks<usize>, due: Option<Nanos>) -> Arc<Task<usize>> {
    match pool.admit(Kind::Counted, due, NOW) {
        Admission::Accepted(task) => task,
        other => panic!("{other:?}"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Submit,
    // A process comes with its task, or is killed, or its task ends: whichever of them.
    Enter(Index),
    Finish(Index, bool),
    Cancel(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Submit),
        4 => any::<Index>().prop_map(Step::Enter),
        3 => (any::<Index>(), any::<bool>()).prop_map(|(i, ok)| Step::Finish(i, ok)),
        1 => any::<Index>().prop_map(Step::Cancel),
    ]
}

struct Modelled {
    task: Arc<Task<usize>>,
    began: bool,
    cancelled: bool,
    ended: bool,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_pool_does_what_a_list_would(
        size in 1..4u32, max_waiting in 0..5u32, steps in prop::collection::vec(step(), 1..150),
    ) {
        let pool = pool(size, max_waiting);
        let mut tasks: Vec<Modelled> = Vec::new();
        // The model: who has a slot and who waits, by number.
        let (mut slots, mut queue) = (Vec::new(), VecDeque::new());
        let (mut ended, mut failed) = (0, 0);

        for step in steps {
            match step {
                Step::Submit => match pool.admit(Kind::Counted, None, NOW) {
                    Admission::Accepted(task) => {
                        let number = tasks.len();
                        tasks.push(Modelled { task, began: false, cancelled: false, ended: false });
                        if slots.len() < size as usize {
                            slots.push(number);
                        } else {
                            prop_assert!(queue.len() < max_waiting as usize);
                            queue.push_back(number);
                        }
                    }
                    Admission::Full => {
                        prop_assert_eq!(slots.len(), size as usize);
                        prop_assert_eq!(queue.len(), max_waiting as usize);
                    }
                    refused => prop_assert!(false, "it never opens: {refused:?}"),
                },
                Step::Enter(index) if !tasks.is_empty() => {
                    let number = index.index(tasks.len());
                    let expected = match &tasks[number] {
                        task if task.ended || task.began => Entry::Gone,
                        _ if slots.contains(&number) => Entry::Run,
                        _ => Entry::Wait,
                    };
                    let (entry, _) = pool.enter(&tasks[number].task, number, NOW);
                    prop_assert_eq!(entry, expected);
                    tasks[number].began |= entry == Entry::Run;
                }
                Step::Finish(index, ok) if !tasks.is_empty() => {
                    let number = index.index(tasks.len());
                    let end = if ok { End::Returned } else { End::Failed };
                    let finish = pool.finish(&tasks[number].task, end, NOW);
                    let reached = match &tasks[number] {
                        task if task.ended => Reached::Ended,
                        task if task.began => Reached::Running,
                        _ => Reached::NotBegun,
                    };
                    prop_assert_eq!(finish.reached, reached);
                    ended += u64::from(reached == Reached::Running);
                    failed += u64::from(reached == Reached::Running && (!ok || tasks[number].cancelled));
                    tasks[number].ended = true;
                    queue.retain(|waiting| *waiting != number);
                    let mut next = None;
                    if slots.contains(&number) {
                        slots.retain(|running| *running != number);
                        next = queue.pop_front();
                        slots.extend(next);
                    }
                    // One that has not come yet will find its slot by itself.
                    let come = next.filter(|next| tasks[*next].task.process().is_some());
                    prop_assert_eq!(finish.wake, come);
                }
                Step::Cancel(index) if !tasks.is_empty() => {
                    let number = index.index(tasks.len());
                    let runs = tasks[number].began && !tasks[number].ended;
                    let finish = pool.cancel(&tasks[number].task, Cause::OwnerDied, NOW);
                    prop_assert_eq!(finish.is_none(), runs);
                    prop_assert_eq!(pool.to_kill(NOW).0.contains(&number), runs);
                    tasks[number].cancelled |= runs;
                    if !runs {
                        tasks[number].ended = true;
                        queue.retain(|waiting| *waiting != number);
                        if slots.contains(&number) {
                            slots.retain(|running| *running != number);
                            slots.extend(queue.pop_front());
                        }
                    }
                }
                _ => {}
            }
            let status = pool.status(NOW);
            prop_assert_eq!(status.running as usize, slots.len());
            prop_assert_eq!(status.waiting as usize, queue.len());
            prop_assert_eq!((status.ended, status.failed), (ended, failed));
        }

        for (number, task) in tasks.iter().enumerate() {
            pool.enter(&task.task, number, NOW);
            pool.finish(&task.task, End::Returned, NOW);
        }
        let status = pool.status(NOW);
        prop_assert_eq!((status.running, status.waiting), (0, 0));
        prop_assert_eq!(pool.to_kill(NOW), (vec![], None));
    }
}

#[test]
fn a_task_past_its_time_is_named_until_it_ends() {
    let pool = pool(2, 0);
    let (early, late) = (task(&pool, Some(Nanos(10))), task(&pool, Some(Nanos(20))));
    assert_eq!(pool.enter(&late, 2, NOW), (Entry::Run, true));
    assert_eq!(pool.enter(&early, 1, NOW), (Entry::Run, true));
    assert_eq!(pool.to_kill(Nanos(9)), (vec![], Some(Nanos(10))));
    assert_eq!(pool.to_kill(Nanos(10)), (vec![1], Some(Nanos(20))));
    assert_eq!(pool.to_kill(Nanos(11)), (vec![1], Some(Nanos(20))));
    let finish = pool.finish(&early, End::Failed, Nanos(12));
    assert_eq!(finish.cause, Some(Cause::Timeout));
    assert_eq!(pool.to_kill(Nanos(12)), (vec![], Some(Nanos(20))));
}

#[test]
fn only_a_deadline_before_the_next_question_asks_for_an_earlier_one() {
    let pool = pool(4, 0);
    let due = |at| task(&pool, Some(Nanos(at)));
    let [first, later, sooner] = [due(20), due(30), due(10)];
    assert_eq!(pool.enter(&first, 1, NOW), (Entry::Run, true));
    pool.finish(&first, End::Returned, NOW);
    // Nothing else is due, but at 20 the question will be asked anyway, also if it is asked before.
    assert_eq!(pool.to_kill(Nanos(1)), (vec![], Some(Nanos(20))));
    assert_eq!(pool.enter(&later, 2, NOW), (Entry::Run, false));
    assert_eq!(pool.enter(&sooner, 3, NOW), (Entry::Run, true));
    assert_eq!(pool.to_kill(NOW), (vec![], Some(Nanos(10))));
    pool.finish(&sooner, End::Returned, NOW);
    assert_eq!(pool.to_kill(Nanos(10)), (vec![], Some(Nanos(30))));
    pool.finish(&later, End::Returned, NOW);
    assert_eq!(pool.to_kill(Nanos(30)), (vec![], None));
    assert_eq!(pool.enter(&due(90), 4, Nanos(30)), (Entry::Run, true));
}

#[test]
fn whoever_asks_next_is_told_only_of_tasks_that_run() {
    let pool = pool(2, 0);
    let due = |at| task(&pool, Some(Nanos(at)));
    let [over, runs] = [due(20), due(30)];
    assert_eq!(pool.enter(&over, 1, NOW), (Entry::Run, true));
    assert_eq!(pool.enter(&runs, 2, NOW), (Entry::Run, false));
    pool.finish(&over, End::Returned, NOW);
    pool.set_server();
    assert_eq!(pool.to_kill(NOW), (vec![], Some(Nanos(30))));
    pool.finish(&runs, End::Returned, NOW);
    pool.set_server();
    // Who enters before the question is asked has it asked again.
    let next = due(40);
    assert_eq!(pool.enter(&next, 3, NOW), (Entry::Run, true));
    pool.finish(&next, End::Returned, NOW);
    pool.set_server();
    assert_eq!(pool.to_kill(NOW), (vec![], None));
}

#[test]
fn a_task_that_returns_after_it_was_to_be_killed_has_failed() {
    let pool = pool(1, 0);
    let task = task(&pool, Some(Nanos(10)));
    pool.enter(&task, 1, NOW);
    assert_eq!(pool.to_kill(Nanos(10)), (vec![1], None));
    let finish = pool.finish(&task, End::Returned, Nanos(11));
    assert_eq!(finish.cause, Some(Cause::Timeout));
    assert_eq!(pool.status(NOW).failed, 1);
}

#[test]
fn a_task_whose_time_passes_in_the_queue_is_late() {
    let pool = pool(1, 1);
    let (first, second) = (task(&pool, None), task(&pool, Some(Nanos(10))));
    pool.enter(&first, 1, NOW);
    assert_eq!(pool.enter(&second, 2, NOW).0, Entry::Wait);
    assert_eq!(pool.finish(&first, End::Returned, NOW).wake, Some(2));
    assert_eq!(pool.enter(&second, 2, Nanos(10)).0, Entry::Late);
    assert_eq!(
        pool.finish(&second, End::Failed, Nanos(10)).reached,
        Reached::Running
    );
    assert_eq!(pool.status(NOW).failed, 1);
}

#[test]
fn a_stopped_pool_names_who_runs_and_lets_nobody_begin() {
    let pool = pool(1, 2);
    let [first, second, third] = [(); 3].map(|()| task(&pool, None));
    pool.enter(&first, 1, NOW);
    pool.enter(&second, 2, NOW);
    assert_eq!(pool.stop(), (vec![1], vec![2]));
    assert_eq!(pool.enter(&second, 2, NOW).0, Entry::Gone);
    assert_eq!(pool.enter(&third, 3, NOW).0, Entry::Gone);
    for task in [&third, &second] {
        assert_eq!(
            pool.finish(task, End::Failed, NOW).reached,
            Reached::NotBegun
        );
    }
    assert_eq!(
        pool.finish(&first, End::Failed, NOW).cause,
        Some(Cause::Stopped)
    );
    assert_eq!(pool.status(NOW).running, 0);
}

#[test]
fn a_probe_does_not_wait_and_one_that_never_begins_is_given_back() {
    let settings = Settings {
        threshold: 1,
        cooldown: Nanos::ZERO,
        ..Settings::default()
    };
    let pool = Tasks::<usize>::new(1, 1, settings);
    let first = task(&pool, None);
    pool.enter(&first, 1, NOW);
    pool.finish(&first, End::Failed, NOW);
    assert!(pool.status(NOW).circuit_open);
    assert!(!pool.status(NOW).refusing, "the cool-down is over");

    // The slot is taken by one that does not count: no room for a probe.
    let Admission::Accepted(other) = pool.admit(Kind::Uncounted, None, NOW) else {
        panic!("the cool-down is over");
    };
    let refused = pool.admit(Kind::Counted, None, NOW);
    assert!(matches!(refused, Admission::CircuitOpen), "{refused:?}");
    pool.finish(&other, End::Returned, NOW);

    let probe = task(&pool, None);
    let refused = pool.admit(Kind::Counted, None, NOW);
    assert!(matches!(refused, Admission::CircuitOpen), "{refused:?}");
    pool.finish(&probe, End::Failed, NOW);
    let probe = task(&pool, None);
    pool.enter(&probe, 2, NOW);
    pool.finish(&probe, End::Returned, NOW);
    assert!(!pool.status(NOW).circuit_open);
}
