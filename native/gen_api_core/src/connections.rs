//! What waits for the client of each connection, in bytes and in unfinished requests.
//!
//! Nobody can ask the VM how many bytes are in the mailbox of a process. But the number of
//! messages there can be asked, and the sizes of those sent last are known here: the bytes that
//! wait are about those of the last so many messages. Messages that others send to the process
//! and do not tell make it more than that, never less.

use crate::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};
use crate::sync::{AHashMap, DashMap, Mutex, RandomState};
use std::collections::VecDeque;
use std::hash::Hash;
use std::sync::Arc;

const SHARDS: usize = 16;

/// Frames up to this size are remembered together.
const GRAIN: u64 = 65_536;

/// How many bytes are remembered: several times what any connection may hold.
const REMEMBERED: u64 = 1 << 28;

/// Frames that were sent one after the other.
#[derive(Copy, Clone, Debug)]
struct Run {
    frames: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Sent {
    runs: VecDeque<Run>,
    remembered: u64,
    /// Bytes that may wait: those found at the last look, and those sent since.
    waiting: u64,
}

impl Sent {
    fn add(&mut self, bytes: u64) {
        self.waiting = self.waiting.saturating_add(bytes);
        self.remembered = self.remembered.saturating_add(bytes);
        match self.runs.back_mut() {
            Some(run) if run.bytes.saturating_add(bytes) <= GRAIN => {
                run.frames += 1;
                run.bytes += bytes;
            }
            _ => self.runs.push_back(Run { frames: 1, bytes }),
        }
        while self.runs.len() > 1 && self.remembered > REMEMBERED {
            let oldest = self.runs.pop_front();
            self.remembered -= oldest.map_or(0, |run| run.bytes);
        }
    }

    /// The bytes of the last so many frames; a share of those that were sent in one run.
    fn last(&self, frames: u64) -> u64 {
        let mut left = frames;
        let mut bytes = 0;
        for run in self.runs.iter().rev() {
            if left < run.frames {
                return bytes + (run.bytes * left).div_ceil(run.frames);
            }
            left -= run.frames;
            bytes += run.bytes;
        }
        bytes
    }
}

/// One client's connection, with all of its channels.
#[derive(Debug, Default)]
pub struct Connection {
    sent: Mutex<Sent>,
    unfinished: AtomicU32,
    closed: AtomicBool,
}

impl Connection {
    /// A frame is sent. Returns the bytes that may wait now.
    pub fn sent(&self, bytes: u64) -> u64 {
        let mut sent = self.sent.lock();
        sent.add(bytes);
        sent.waiting
    }

    /// A frame is sent, unless with it more than `limit` bytes may wait.
    pub fn sent_within(&self, bytes: u64, limit: u64) -> bool {
        let mut sent = self.sent.lock();
        let fits = sent.waiting.saturating_add(bytes) <= limit;
        if fits {
            sent.add(bytes);
        }
        fits
    }

    /// The bytes that may wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.sent.lock().waiting
    }

    /// Somebody has looked, and so many frames wait. Returns the bytes that these are.
    pub fn seen(&self, frames: u64) -> u64 {
        let mut sent = self.sent.lock();
        sent.waiting = sent.last(frames);
        sent.waiting
    }

    /// How many of its requests are unfinished.
    #[must_use]
    pub fn unfinished(&self) -> u32 {
        self.unfinished.load(Acquire)
    }
}

/// The ids of one channel that unfinished requests hold, each with the number of the share that has begun it.
#[derive(Debug, Default)]
struct Ids {
    held: Mutex<AHashMap<Box<[u8]>, u64>>,
    shares: AtomicU64,
}

/// What becomes of a request that is to begin.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// It has begun.
    Begun,
    /// Its connection has as many as it may, or is closed.
    Full,
    /// An unfinished request of the channel holds its id.
    Duplicate,
}

/// The share that one channel has in its connection, or that a part of a channel has, whose parts hold ids
/// together. What it has begun ends with it.
#[derive(Debug)]
pub struct Share {
    connection: Arc<Connection>,
    ids: Arc<Ids>,
    number: u64,
    unfinished: AtomicU32,
}

impl Share {
    /// In a connection.
    #[must_use]
    pub fn new(connection: Arc<Connection>) -> Self {
        Self::with(connection, Arc::default())
    }

    /// Of another part of the same channel.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self::with(Arc::clone(&self.connection), Arc::clone(&self.ids))
    }

    fn with(connection: Arc<Connection>, ids: Arc<Ids>) -> Self {
        let number = ids.shares.fetch_add(1, Relaxed);
        Self {
            connection,
            ids,
            number,
            unfinished: AtomicU32::new(0),
        }
    }

    /// Its connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Begins a request, unless the connection has `max` already, or is closed: a channel may
    /// still have many messages of a client that has gone. Of one with an id that may be held, it holds it.
    pub fn begin(&self, max: u32, id: &[u8], hold: bool) -> Beginning {
        if self.connection.closed.load(Acquire) {
            return Beginning::Full;
        }
        let mut held = self.ids.held.lock();
        if held.contains_key(id) {
            return Beginning::Duplicate;
        }
        let one_more = |count| (count < max).then_some(count + 1);
        let begun = self
            .connection
            .unfinished
            .fetch_update(AcqRel, Acquire, one_more)
            .is_ok();
        if !begun {
            return Beginning::Full;
        }
        self.unfinished.fetch_add(1, AcqRel);
        if hold {
            held.insert(id.into(), self.number);
        }
        Beginning::Begun
    }

    /// Ends one of its requests, which has held that id.
    pub fn finish(&self, id: Option<&[u8]>) {
        if let Some(id) = id {
            let mut held = self.ids.held.lock();
            if held.get(id) == Some(&self.number) {
                held.remove(id);
            }
        }
        let one_less = |count: u32| count.checked_sub(1);
        let finished = self.unfinished.fetch_update(AcqRel, Acquire, one_less);
        if finished.is_ok() {
            self.connection.unfinished.fetch_sub(1, AcqRel);
        }
    }
}

impl Share {
    /// Ends all that it has begun.
    pub fn release(&self) {
        let left = self.unfinished.swap(0, AcqRel);
        self.connection.unfinished.fetch_sub(left, AcqRel);
        self.ids
            .held
            .lock()
            .retain(|_id, number| *number != self.number);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.release();
    }
}

/// All connections by their process, until that ends.
pub struct Connections<P> {
    by_process: DashMap<P, Arc<Connection>>,
}

impl<P> std::fmt::Debug for Connections<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

impl<P: Copy + Eq + Hash> Default for Connections<P> {
    fn default() -> Self {
        Self {
            by_process: DashMap::with_hasher_and_shard_amount(RandomState::new(), SHARDS),
        }
    }
}

impl<P: Copy + Eq + Hash> Connections<P> {
    /// The connection of a process; `watch` is called once for it, and says whether the process
    /// lives and [`Connections::ended`] will be called.
    pub fn open(&self, process: P, watch: impl FnOnce() -> bool) -> Arc<Connection> {
        if let Some(known) = self.get(process) {
            return known;
        }
        let mut new = false;
        let connection = Arc::clone(&self.by_process.entry(process).or_insert_with(|| {
            new = true;
            Arc::default()
        }));
        // Not under the lock of the map: the process may end just now.
        if new && !watch() {
            self.ended(process);
        }
        connection
    }

    /// The connection of a process, if it is known.
    #[must_use]
    pub fn get(&self, process: P) -> Option<Arc<Connection>> {
        self.by_process
            .get(&process)
            .map(|known| Arc::clone(&known))
    }

    /// The process has ended.
    pub fn ended(&self, process: P) {
        if let Some((_, connection)) = self.by_process.remove(&process) {
            connection.closed.store(true, Release);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_process.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Beginning, Connection, Connections, Share, GRAIN};
    use proptest::prelude::*;
    use std::sync::Arc;

    #[test]
    fn large_frames_are_counted_exactly_whatever_was_sent_around_them() {
        let connection = Connection::default();
        for _ in 0..1_000 {
            connection.sent(100);
        }
        connection.sent(5_000_000);
        connection.sent(3_000_000);
        assert_eq!(connection.waiting(), 8_100_000);
        assert_eq!(connection.seen(2), 8_000_000);
        assert_eq!(connection.seen(1), 3_000_000);
        assert_eq!(connection.sent(100), 3_000_100);
        assert_eq!(connection.seen(0), 0);
    }

    #[test]
    fn more_messages_than_were_sent_are_all_that_were_sent() {
        let connection = Connection::default();
        connection.sent(10);
        assert_eq!(connection.seen(1_000_000), 10);
    }

    #[test]
    fn a_connection_remembers_no_more_than_a_few_kilobytes_of_sizes() {
        let connection = Connection::default();
        for _ in 0..100_000 {
            connection.sent(GRAIN);
        }
        assert!(connection.sent.lock().runs.len() <= 5_000);
    }

    proptest! {
        #[test]
        fn what_waits_is_off_by_less_than_one_run(
            sizes in prop::collection::vec(0..2 * GRAIN, 1..300),
            waiting in 0_usize..400,
        ) {
            let connection = Connection::default();
            for size in &sizes {
                connection.sent(*size);
            }
            let real: u64 = sizes.iter().rev().take(waiting).sum();
            let told = connection.seen(waiting as u64);
            prop_assert!(told.abs_diff(real) <= GRAIN, "{} for {}", told, real);
        }
    }

    #[test]
    fn unfinished_requests_are_bounded_over_all_channels_and_end_with_their_channel() {
        let connection = Arc::new(Connection::default());
        let first = Share::new(Arc::clone(&connection));
        let second = Share::new(Arc::clone(&connection));
        for share in [&first, &second, &second] {
            assert_eq!(share.begin(3, b"id", false), Beginning::Begun);
        }
        assert_eq!(first.begin(3, b"id", false), Beginning::Full);
        second.finish(None);
        assert_eq!(first.begin(3, b"id", false), Beginning::Begun);
        drop(first);
        assert_eq!(connection.unfinished(), 1);
        second.finish(None);
        second.finish(None);
        assert_eq!(connection.unfinished(), 0);
    }

    #[test]
    fn nothing_begins_for_a_client_that_has_gone() {
        let connections = Connections::default();
        let share = Share::new(connections.open(1, || true));
        assert_eq!(share.begin(10, b"id", false), Beginning::Begun);
        connections.ended(1);
        assert_eq!(share.begin(10, b"id", false), Beginning::Full);
        share.finish(None);
        assert_eq!(share.connection().unfinished(), 0);
        let late = Share::new(connections.open(2, || false));
        assert_eq!(late.begin(10, b"id", false), Beginning::Full);
    }

    #[test]
    fn a_connection_is_known_until_its_process_ends() {
        let connections = Connections::default();
        let first = connections.open(1, || true);
        let again = connections.open(1, || panic!("watched already"));
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(connections.len(), 1);
        connections.ended(1);
        assert!(connections.get(1).is_none());
        connections.open(2, || false);
        assert!(connections.is_empty());
    }

    #[test]
    fn an_id_is_held_in_all_parts_of_a_channel_until_its_request_or_its_part_has_ended() {
        let share = Share::new(Arc::default());
        let part = share.sibling();
        assert_eq!(share.begin(10, b"a", true), Beginning::Begun);
        assert_eq!(part.begin(10, b"a", false), Beginning::Duplicate);
        // Another part cannot end it, and another channel does not know it.
        part.finish(Some(b"a"));
        assert_eq!(part.begin(10, b"a", true), Beginning::Duplicate);
        let other = Share::new(Arc::default());
        assert_eq!(other.begin(10, b"a", true), Beginning::Begun);
        // Those that hold nothing may have the same one.
        assert_eq!(part.begin(10, b"b", false), Beginning::Begun);
        assert_eq!(part.begin(10, b"b", false), Beginning::Begun);
        share.finish(Some(b"a"));
        assert_eq!(part.begin(10, b"a", true), Beginning::Begun);
        part.release();
        assert_eq!(share.begin(10, b"a", true), Beginning::Begun);
        assert_eq!(part.begin(10, b"b", true), Beginning::Begun);
        drop(part);
        assert_eq!(share.begin(10, b"b", false), Beginning::Begun);
        share.finish(None);
        assert_eq!(share.begin(1, b"c", true), Beginning::Full);
        share.finish(Some(b"a"));
        assert_eq!(share.begin(1, b"c", true), Beginning::Begun);
    }
}
