//! What dashmap and crossbeam take in places where something else stands:
//! `cargo bench -p gen_api_core --bench crates`.
//!
//! Rounds alternate, and the ratio is the median of the ratios of each round: what disturbs the machine disturbs
//! both. The figures are in `guides/architecture.md`.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use ahash::{AHashMap, RandomState};
use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;
use dashmap::DashMap;
use hashbrown::HashTable;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

const ROUNDS: usize = 41;
const TIMES: u64 = 100_000;

/// Nanoseconds for each of [`TIMES`] on that many threads at once, each with a number of its own.
fn time(threads: u64, run: &(dyn Fn(u64, u64) + Sync)) -> f64 {
    let barrier = Barrier::new(threads as usize);
    let spent = thread::scope(|scope| {
        let threads = (0..threads).map(|thread| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                let started = Instant::now();
                (0..TIMES).for_each(|n| run(thread, n));
                started.elapsed()
            })
        });
        let threads: Vec<_> = threads.collect();
        let spent = threads.into_iter().map(|thread| thread.join().unwrap());
        spent.max().unwrap()
    });
    spent.as_nanos() as f64 / TIMES as f64
}

type Run<'r> = &'r (dyn Fn(u64, u64) + Sync);

fn compare(what: &str, ours: Run<'_>, names: &str, theirs: Run<'_>) {
    for threads in [1, 2] {
        let mut rounds: Vec<(f64, f64, f64)> = (0..ROUNDS)
            .map(|round| {
                let (a, b) = if round % 2 == 0 {
                    let a = time(threads, ours);
                    (a, time(threads, theirs))
                } else {
                    let b = time(threads, theirs);
                    (time(threads, ours), b)
                };
                (b / a, a, b)
            })
            .collect();
        rounds.sort_by(|x, y| x.0.total_cmp(&y.0));
        let (ratio, a, b) = rounds[ROUNDS / 2];
        println!("{what}, {threads} thread(s): {a:.1} ns; {names}: {b:.1} ns, ratio {ratio:.2}");
    }
}

type Tasks = CachePadded<Mutex<AHashMap<u64, Arc<u64>>>>;
type Groups = CachePadded<RwLock<HashTable<Arc<Box<str>>>>>;

/// The tasks of a pool that run, by number: each begins and ends.
fn running_tasks() {
    let task = Arc::new(0u64);
    let shards: [Tasks; 16] = std::array::from_fn(|_| Tasks::default());
    let dashmap: DashMap<u64, Arc<u64>, RandomState> =
        DashMap::with_hasher_and_shard_amount(RandomState::new(), 16);
    let number = |thread, n| n * 2 + thread;
    compare(
        "a task begins and ends, 16 locked AHashMaps",
        &|thread, n| {
            let number = number(thread, n);
            let shard = &shards[(number % 16) as usize];
            shard.lock().insert(number, Arc::clone(&task));
            black_box(shard.lock().remove(&number));
        },
        "DashMap",
        &|thread, n| {
            let number = number(thread, n);
            dashmap.insert(number, Arc::clone(&task));
            black_box(dashmap.remove(&number));
        },
    );
}

/// Groups of the relay, by name: each is found.
fn groups() {
    const GROUPS: u64 = 10_000;
    let hasher = RandomState::new();
    let name = |n: u64| format!("group-{n}");
    let shards: Vec<Groups> = (0..256).map(|_| Groups::default()).collect();
    let dashmap: DashMap<Box<str>, Arc<Box<str>>, RandomState> =
        DashMap::with_hasher_and_shard_amount(hasher.clone(), 256);
    let shard = |hash: u64| &shards[(hash >> 24 & 255) as usize];
    let names: Vec<String> = (0..GROUPS).map(name).collect();
    for name in &names {
        let group: Arc<Box<str>> = Arc::new(name.as_str().into());
        let hash = hasher.hash_one(name.as_bytes());
        let rehash = |group: &Arc<Box<str>>| hasher.hash_one(group.as_bytes());
        shard(hash)
            .write()
            .insert_unique(hash, Arc::clone(&group), rehash);
        dashmap.insert(name.as_str().into(), group);
    }
    let name = |thread: u64, n: u64| names[((n * 7_919 + thread) % GROUPS) as usize].as_str();
    compare(
        "a group is found, 256 locked tables of handles",
        &|thread, n| {
            let name = name(thread, n);
            let hash = hasher.hash_one(name.as_bytes());
            let table = shard(hash).read();
            black_box(table.find(hash, |group| &***group == name).cloned());
        },
        "DashMap",
        &|thread, n| {
            let group = dashmap.get(name(thread, n));
            black_box(group.map(|group| Arc::clone(&group)));
        },
    );
}

/// Devices that have ended: each is noted and taken out.
fn pending_exits() {
    let locked: Mutex<VecDeque<u64>> = Mutex::default();
    let queue: SegQueue<u64> = SegQueue::new();
    compare(
        "a process ends and is seen to, a locked VecDeque",
        &|_thread, n| {
            locked.lock().push_back(n);
            black_box(locked.lock().pop_front());
        },
        "SegQueue",
        &|_thread, n| {
            queue.push(n);
            black_box(queue.pop());
        },
    );
}

fn main() {
    running_tasks();
    groups();
    pending_exits();
}
