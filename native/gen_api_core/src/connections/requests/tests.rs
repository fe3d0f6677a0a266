use super::{
    Acknowledgement, Admission, Cancelled, Kind, Limit, Limits, Lost, Requests, Traits, Turn,
};
use crate::connections::{Connection, Share};
use proptest::prelude::*;
use std::sync::Arc;

const CHANNEL: u64 = 1;
const TRANSPORT: u64 = 2;
const QUEUE: u64 = 3;

const SYNC: Traits = Traits {
    holds_id: false,
    long: false,
    in_order: false,
};
const LONG: Traits = Traits {
    holds_id: true,
    long: true,
    in_order: false,
};
const RELAY: Traits = Traits {
    holds_id: false,
    long: false,
    in_order: true,
};

const LIMITS: Limits = Limits {
    connection: 100,
    bytes: 1_000,
    concurrency: 1,
    pending: 2,
    running: 2,
};

type Channel = Requests<u64, &'static str>;

fn channel() -> Channel {
    Requests::new(
        Share::new(Arc::default()),
        Arc::default(),
        CHANNEL,
        TRANSPORT,
    )
}

fn start(channel: &Channel, id: &str, traits: Traits, process: u64) -> u64 {
    let Admission::Start(number, false) = channel.admit(id.as_bytes(), traits, &LIMITS, 0) else {
        panic!("{id} does not start")
    };
    assert!(channel.started(number, process, "info", || true).0);
    number
}

fn wait(channel: &Channel, id: &str, traits: Traits) -> u64 {
    match channel.admit(id.as_bytes(), traits, &LIMITS, 10) {
        Admission::Wait(number, _queue) => {
            channel.waits(number, "waiting");
            number
        }
        other => panic!("{id}: {other:?}"),
    }
}

#[test]
fn requests_start_in_order_as_slots_are_free() {
    let channel = channel();
    let first = start(&channel, "a", SYNC, 10);
    let second = wait(&channel, "b", SYNC);
    channel.set_queue(QUEUE, || true);
    let third = wait(&channel, "c", SYNC);
    assert_eq!(channel.turn(&LIMITS, third, false), Turn::Nobody);
    // Its answer is on its way: its slot counts no more for those that wait, but is not free.
    assert!(channel.finish(first));
    assert!(!channel.finish(first));
    wait(&channel, "d", SYNC);
    assert_eq!(
        channel.admit(b"e", SYNC, &LIMITS, 0),
        Admission::Refused(Limit::Pending)
    );
    assert_eq!(channel.turn(&LIMITS, third, false), Turn::Nobody);
    let ended = channel.ended(10);
    assert_eq!((ended.lost, ended.wake), (vec![], Some(QUEUE)));
    // The second has not arrived in the queue yet.
    assert_eq!(channel.turn(&LIMITS, first, false), Turn::Nobody);
    assert_eq!(
        channel.turn(&LIMITS, second, false),
        Turn::Start(second, false)
    );
    assert_eq!(channel.turn(&LIMITS, third, false), Turn::Nobody);
    assert_eq!(channel.count(), (1, 0, 2));
}

#[test]
fn requests_wait_for_a_client_that_does_not_read_and_for_a_busy_channel() {
    let (client, busy) = (Arc::new(Connection::default()), Arc::default());
    let channel: Channel = Requests::new(
        Share::new(Arc::clone(&client)),
        Arc::clone(&busy),
        CHANNEL,
        TRANSPORT,
    );
    client.sent(1_001);
    let number = wait(&channel, "a", SYNC);
    assert_eq!(channel.turn(&LIMITS, number, false), Turn::Reading);
    assert_eq!(
        channel.turn(&LIMITS, number, true),
        Turn::Start(number, false)
    );
    client.seen(0);
    channel.started(number, 10, "info", || true);
    channel.finish(number);
    channel.ended(10);
    busy.sent(1_001);
    wait(&channel, "b", SYNC);
}

#[test]
fn an_acknowledged_request_frees_its_slot_and_counts_as_running_until_its_end() {
    let channel = channel();
    let number = start(&channel, "a", LONG, 10);
    assert_eq!(channel.admit(b"a", SYNC, &LIMITS, 0), Admission::Duplicate);
    assert_eq!(
        channel.acknowledge(number, Kind::Async, 2),
        Acknowledgement::Granted
    );
    assert_eq!(channel.acknowledged(number), (true, None));
    let second = start(&channel, "b", LONG, 11);
    channel.acknowledge(second, Kind::Stream, 2);
    channel.acknowledged(second);
    assert_eq!(
        channel.admit(b"c", LONG, &LIMITS, 0),
        Admission::Refused(Limit::Running)
    );
    // A hook made this one long.
    let hooked = start(&channel, "d", SYNC, 12);
    assert_eq!(
        channel.acknowledge(hooked, Kind::Async, 2),
        Acknowledgement::Refused
    );
    assert!(channel.finish(hooked));
    channel.ended(12);
    assert!(channel.finish_running(number));
    assert!(!channel.finish_running(number));
    start(&channel, "a", LONG, 13);
    assert_eq!(channel.count(), (1, 1, 0));
}

#[test]
fn what_dies_before_its_answer_is_told_once() {
    let channel = channel();
    let number = start(&channel, "a", LONG, 10);
    channel.called(number);
    let lost = |kind, called| {
        vec![Lost {
            info: "info",
            kind,
            called,
        }]
    };
    assert_eq!(channel.ended(10).lost, lost(None, true));
    assert_eq!(channel.ended(10).lost, vec![]);
    let number = start(&channel, "a", LONG, 11);
    channel.acknowledge(number, Kind::Stream, 1);
    channel.acknowledged(number);
    assert_eq!(channel.ended(11).lost, lost(Some(Kind::Stream), false));
    // Already dead when it is named.
    let Admission::Start(number, false) = channel.admit(b"a", LONG, &LIMITS, 0) else {
        panic!()
    };
    let (_go_on, ended) = channel.started(number, 12, "info", || false);
    assert_eq!(ended.lost, lost(None, false));
    assert_eq!(channel.count(), (0, 0, 0));
    start(&channel, "a", LONG, 13);
}

#[test]
fn the_queue_takes_none_of_its_requests_with_it() {
    let channel = channel();
    let first = start(&channel, "a", SYNC, 10);
    let second = wait(&channel, "b", LONG);
    wait(&channel, "c", SYNC);
    channel.set_queue(QUEUE, || true);
    channel.finish(first);
    channel.ended(10);
    assert_eq!(
        channel.turn(&LIMITS, second, false),
        Turn::Start(second, false)
    );
    let lost = channel.ended(QUEUE).lost;
    assert_eq!(lost.len(), 2);
    assert!(lost.iter().all(|lost| lost.info == "waiting"));
    assert_eq!(channel.count(), (0, 0, 0));
    start(&channel, "b", LONG, 11);
}

#[test]
fn a_cancel_reaches_requests_in_every_state_and_only_once() {
    let channel = channel();
    let running = start(&channel, "a", LONG, 10);
    channel.acknowledge(running, Kind::Async, 2);
    channel.acknowledged(running);
    let executing = start(&channel, "x", SYNC, 11);
    let waiting = wait(&channel, "x", SYNC);
    channel.set_queue(QUEUE, || true);
    assert_eq!(channel.cancel(b"a", true), vec![]);
    assert_eq!(
        channel.cancel(b"a", false),
        vec![Cancelled::Running(Some(10))]
    );
    assert_eq!(
        channel.cancel(b"x", false),
        vec![
            Cancelled::Executing(Some(11), "info"),
            Cancelled::Waiting(waiting, Some(QUEUE), "waiting")
        ]
    );
    assert_eq!(channel.cancel(b"x", false), vec![]);
    assert!(!channel.finish(executing));
    assert!(!channel.finish_running(running));
    assert_eq!(channel.ended(11).lost, vec![]);
    assert_eq!(channel.count(), (0, 0, 0));
}

#[test]
fn a_cancel_while_an_acknowledgement_is_sent_counts_when_it_is_sent() {
    let channel = channel();
    let number = start(&channel, "a", LONG, 10);
    channel.acknowledge(number, Kind::Stream, 2);
    assert_eq!(channel.cancel(b"a", true), vec![Cancelled::Running(None)]);
    assert_eq!(channel.cancel(b"a", false), vec![]);
    assert_eq!(channel.acknowledged(number), (false, None));
    assert!(!channel.finish_running(number));
    // Its last frame is due, from its process or from who hears that it died.
    assert!(channel.finish_cancelled(number));
    assert!(!channel.finish_cancelled(number));
    assert_eq!(channel.ended(10).lost, vec![]);
    let number = start(&channel, "a", LONG, 11);
    channel.acknowledge(number, Kind::Stream, 2);
    channel.acknowledged(number);
    assert_eq!(channel.cancel(b"a", true).len(), 1);
    start(&channel, "a", LONG, 12);
    let lost = channel.ended(11).lost;
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].kind, Some(Kind::Stream));
}

fn follow(channel: &Channel, id: &str, process: u64) -> u64 {
    let Admission::Start(number, true) = channel.admit(id.as_bytes(), RELAY, &LIMITS, 0) else {
        panic!("{id} follows nothing")
    };
    channel.started(number, process, "info", || true);
    assert!(channel.follow(number, process));
    number
}

#[test]
fn messages_to_groups_run_one_after_the_other_over_all_events_of_a_channel() {
    let channels: Vec<Channel> = std::iter::successors(Some(channel()), |it| Some(it.sibling()))
        .take(4)
        .collect();
    start(&channels[0], "a", RELAY, 10);
    follow(&channels[1], "b", 11);
    follow(&channels[2], "c", 12);
    // One that is cancelled lets nobody pass.
    assert_eq!(channels[1].cancel(b"b", false).len(), 1);
    assert_eq!(channels[1].ended(11).proceed, None);
    follow(&channels[3], "d", 13);
    assert_eq!(channels[0].ended(10).proceed, Some(12));
    assert_eq!(channels[2].ended(12).proceed, Some(13));
    let last = channels[0].admit(b"e", RELAY, &LIMITS, 0);
    let Admission::Start(number, true) = last else {
        panic!()
    };
    assert_eq!(channels[3].ended(13).proceed, None);
    assert!(!channels[0].follow(number, 14));
}

#[test]
fn nothing_starts_or_is_answered_once_the_channel_or_its_client_has_gone() {
    for owner in [CHANNEL, TRANSPORT] {
        let channel = channel();
        let number = start(&channel, "a", LONG, 10);
        wait(&channel, "b", SYNC);
        let ended = channel.ended(owner);
        assert_eq!((ended.kill, ended.lost), (vec![10], vec![]));
        assert!(!channel.finish(number));
        assert_eq!(channel.ended(10).lost, vec![]);
        assert_eq!(channel.count(), (0, 0, 0));
        assert_eq!(
            channel.admit(b"c", SYNC, &LIMITS, 0),
            Admission::Refused(Limit::Connection)
        );
    }
}

#[test]
fn those_that_wait_do_so_until_their_time_is_up() {
    let channel = channel();
    start(&channel, "a", SYNC, 10);
    let first = channel.admit(b"b", LONG, &LIMITS, 20);
    assert!(matches!(first, Admission::Wait(_, None)));
    let second = wait(&channel, "c", SYNC);
    assert_eq!(channel.expire(9, second), (vec![], Some(10)));
    assert_eq!(channel.expire(10, second), (vec![second], Some(20)));
    assert!(channel.finish_waiting(second));
    assert!(!channel.finish_waiting(second));
    assert!(!channel.retire(QUEUE));
    let (late, next) = channel.expire(20, second);
    assert_eq!((late.len(), next), (1, None));
    assert!(channel.finish_waiting(late[0]));
    assert!(channel.retire(QUEUE));
    assert_eq!(channel.count(), (1, 0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Admit(u8, bool),
    Finish(usize),
    Acknowledge(usize),
    Last(usize),
    Kill(usize),
    Cancel(u8),
    Turn,
    KillQueue,
    Expire,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..4, any::<bool>()).prop_map(|(id, long)| Step::Admit(id, long)),
        2 => (0_usize..8).prop_map(Step::Finish),
        2 => (0_usize..8).prop_map(Step::Acknowledge),
        1 => (0_usize..8).prop_map(Step::Last),
        1 => (0_usize..8).prop_map(Step::Kill),
        1 => (0_u8..4).prop_map(Step::Cancel),
        3 => Just(Step::Turn),
        1 => Just(Step::KillQueue),
        1 => Just(Step::Expire),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Whatever happens, each request that was taken in has one outcome, and nothing is left.
    #[test]
    fn each_request_has_one_outcome(steps in steps(), concurrency in 1_u32..4) {
        let limits = Limits { concurrency, ..LIMITS };
        let connection = Arc::new(Connection::default());
        let channel: Requests<u64, u64> =
            Requests::new(Share::new(Arc::clone(&connection)), Arc::default(), CHANNEL, TRANSPORT);
        // By number: outcomes so far. A process has the number of its request and 100.
        let mut outcomes = std::collections::BTreeMap::<u64, u32>::new();
        let mut alive: Vec<u64> = Vec::new();
        let mut last = 0;
        let settle = |outcomes: &mut std::collections::BTreeMap<u64, u32>, number: u64| {
            *outcomes.entry(number).or_default() += 1;
        };
        for step in steps {
            match step {
                Step::Admit(id, long) => {
                    let traits = if long { LONG } else { SYNC };
                    match channel.admit(&[id], traits, &limits, 5) {
                        Admission::Start(number, _) => {
                            outcomes.insert(number, 0);
                            channel.started(number, number + 100, number, || true);
                            alive.push(number);
                        }
                        Admission::Wait(number, queue) => {
                            outcomes.insert(number, 0);
                            channel.waits(number, number);
                            if queue.is_none() {
                                channel.set_queue(QUEUE, || true);
                            }
                            last = number;
                        }
                        Admission::Duplicate | Admission::Refused(_) => {}
                    }
                }
                Step::Finish(which) => {
                    if let Some(&number) = alive.get(which) {
                        if channel.finish(number) {
                            settle(&mut outcomes, number);
                        }
                    }
                }
                Step::Acknowledge(which) => {
                    if let Some(&number) = alive.get(which) {
                        match channel.acknowledge(number, Kind::Async, limits.running) {
                            Acknowledgement::Granted => {
                                if !channel.acknowledged(number).0 {
                                    settle(&mut outcomes, number);
                                }
                            }
                            Acknowledgement::Refused => {
                                if channel.finish(number) {
                                    settle(&mut outcomes, number);
                                }
                            }
                            Acknowledgement::Ended => {}
                        }
                    }
                }
                Step::Last(which) => {
                    if let Some(&number) = alive.get(which) {
                        if channel.finish_running(number) {
                            settle(&mut outcomes, number);
                        }
                    }
                }
                Step::Kill(which) => {
                    if which < alive.len() {
                        let number = alive.remove(which);
                        for lost in channel.ended(number + 100).lost {
                            settle(&mut outcomes, lost.info);
                        }
                    }
                }
                Step::Cancel(id) => {
                    for cancelled in channel.cancel(&[id], false) {
                        match cancelled {
                            Cancelled::Waiting(_, _, number) | Cancelled::Executing(_, number) => {
                                settle(&mut outcomes, number);
                            }
                            Cancelled::Running(Some(process)) => {
                                settle(&mut outcomes, process - 100);
                            }
                            Cancelled::Running(None) => {}
                        }
                    }
                }
                Step::Turn => match channel.turn(&limits, last, false) {
                    Turn::Start(number, _) => {
                        channel.started(number, number + 100, number, || true);
                        alive.push(number);
                    }
                    Turn::Refused(number) => {
                        if channel.finish_waiting(number) {
                            settle(&mut outcomes, number);
                        }
                    }
                    Turn::Nobody | Turn::Reading | Turn::Other(_) => {}
                },
                Step::KillQueue => {
                    for lost in channel.ended(QUEUE).lost {
                        settle(&mut outcomes, lost.info);
                    }
                }
                Step::Expire => {
                    for number in channel.expire(5, last).0 {
                        if channel.finish_waiting(number) {
                            settle(&mut outcomes, number);
                        }
                    }
                }
            }
            let (slots, _running, waiting) = channel.count();
            prop_assert!(slots <= concurrency as usize);
            prop_assert!(waiting <= (limits.pending + concurrency) as usize);
            let open = outcomes.values().filter(|count| **count == 0).count();
            prop_assert_eq!(connection.unfinished() as usize, open);
        }
        for number in alive.drain(..) {
            for lost in channel.ended(number + 100).lost {
                settle(&mut outcomes, lost.info);
            }
        }
        for lost in channel.ended(QUEUE).lost {
            settle(&mut outcomes, lost.info);
        }
        prop_assert!(outcomes.values().all(|count| *count == 1), "{:?}", outcomes);
        prop_assert_eq!(channel.count(), (0, 0, 0));
        prop_assert_eq!(connection.unfinished(), 0);
    }
}

#[test]
fn the_processes_of_an_id_are_those_of_its_unfinished_long_requests() {
    let channel = channel();
    let limits = Limits {
        concurrency: 10,
        ..LIMITS
    };
    let start = |id: &str, traits, process| {
        let Admission::Start(number, _) = channel.admit(id.as_bytes(), traits, &limits, 0) else {
            panic!("{id} does not start")
        };
        assert!(channel.started(number, process, "info", || true).0);
        number
    };
    let stream = start("stream", LONG, 10);
    start("other", LONG, 11);
    start("sync", SYNC, 12);
    assert_eq!(channel.long(b"stream"), [10]);
    assert_eq!(channel.long(b"sync"), [0; 0]);
    assert_eq!(channel.long(b"unknown"), [0; 0]);
    channel.acknowledge(stream, Kind::Stream, 2);
    channel.acknowledged(stream);
    assert_eq!(channel.long(b"stream"), [10]);
    assert!(channel.finish_running(stream));
    assert_eq!(channel.long(b"stream"), [0; 0]);
}
