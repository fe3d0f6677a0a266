//! What one channel has in its connection.

use super::Connection;
use crate::sync::atomic::{
    AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use crate::sync::{AHashMap, Mutex};
use std::sync::Arc;

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

    /// The same, for longer than this lives.
    #[must_use]
    pub fn shared_connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
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

#[cfg(test)]
mod tests {
    use super::{Beginning, Share};
    use crate::connections::{Connection, Connections};
    use std::sync::Arc;

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
