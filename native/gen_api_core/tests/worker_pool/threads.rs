//! Threads that submit, run, kill and cancel at once.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;

use gen_api_core::breaker::Settings;
use gen_api_core::clock::Nanos;
use gen_api_core::worker_pool::{Admission, End, Entry, Kind, Reached, Task, Tasks};

const SIZE: u32 = 3;
const THREADS: usize = 6;
const TASKS: usize = 20_000;
const NOW: Nanos = Nanos::ZERO;

// A process is its thread, which is woken through its channel: of all its tasks it then tries each.
struct World {
    pool: Tasks<usize>,
    wake: Vec<Sender<()>>,
    running: AtomicU32,
    ran: AtomicU64,
    cancelled: AtomicU64,
    refused: AtomicU64,
}

impl World {
    /// True when the task is done with.
    fn try_run(&self, task: &Arc<Task<usize>>, me: usize) -> bool {
        match self.pool.enter(task, me, NOW).0 {
            Entry::Wait => false,
            Entry::Run => {
                assert!(
                    self.running.fetch_add(1, SeqCst) < SIZE,
                    "more than the cap"
                );
                std::thread::yield_now();
                self.running.fetch_sub(1, SeqCst);
                self.ran.fetch_add(1, SeqCst);
                self.finish(task, Reached::Running);
                true
            }
            other => panic!("{other:?}"),
        }
    }

    fn finish(&self, task: &Task<usize>, reached: Reached) {
        let finish = self.pool.finish(task, End::Returned, NOW);
        assert_eq!(finish.reached, reached);
        if let Some(next) = finish.wake {
            self.wake[next].send(()).unwrap();
        }
    }

    fn thread(&self, me: usize, woken: &Receiver<()>) {
        let mut waiting: Vec<Arc<Task<usize>>> = Vec::new();
        for n in 0..TASKS {
            match self.pool.admit(Kind::Counted, None, NOW) {
                // Every seventh dies before its process comes; every eleventh while it waits.
                Admission::Accepted(task) if n % 7 == 0 => {
                    self.cancelled.fetch_add(1, SeqCst);
                    self.finish(&task, Reached::NotBegun);
                }
                Admission::Accepted(task) if self.try_run(&task, me) => {}
                Admission::Accepted(task) if n % 11 == 0 => {
                    self.cancelled.fetch_add(1, SeqCst);
                    self.finish(&task, Reached::NotBegun);
                }
                Admission::Accepted(task) => waiting.push(task),
                Admission::Full => {
                    self.refused.fetch_add(1, SeqCst);
                    std::thread::yield_now();
                }
                refused => panic!("nothing fails: {refused:?}"),
            }
            if woken.try_recv().is_ok() {
                waiting.retain(|task| !self.try_run(task, me));
            }
        }
        while !waiting.is_empty() {
            // A slot that nobody is told of would leave this waiting for ever.
            let wait = std::time::Duration::from_secs(30);
            woken.recv_timeout(wait).expect("a slot was lost");
            waiting.retain(|task| !self.try_run(task, me));
        }
    }
}

#[test]
fn the_cap_holds_and_every_task_runs_once_or_is_cancelled() {
    let (wake, woken): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| channel()).unzip();
    let world = World {
        pool: Tasks::new(SIZE, 40, Settings::default()),
        wake,
        running: AtomicU32::new(0),
        ran: AtomicU64::new(0),
        cancelled: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    };
    std::thread::scope(|scope| {
        for (me, woken) in woken.into_iter().enumerate() {
            let world = &world;
            scope.spawn(move || world.thread(me, &woken));
        }
    });
    let [ran, cancelled, refused] =
        [&world.ran, &world.cancelled, &world.refused].map(|count| count.load(SeqCst));
    assert_eq!(ran + cancelled + refused, (THREADS * TASKS) as u64);
    assert!(ran > 1_000 && cancelled > 1_000);
    let status = world.pool.status(NOW);
    assert_eq!((status.running, status.waiting, status.ended), (0, 0, ran));
}
