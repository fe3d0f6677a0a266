//! What waits for the client of each connection, in bytes and in unfinished requests.
//!
//! | file | concept |
//! |---|---|
//! | `requests` | the requests of one event of a channel: which start, go on, wait, and who answers them |
//! | `sent` | the bytes that wait, by the sizes of what was sent last |
//! | `share` | what one channel has in its connection: its unfinished requests, and their ids |

mod requests;
mod sent;
mod share;

pub use requests::{
    Acknowledgement, Admission, Cancelled, Ended, Kind, Limit, Limits, Lost, Requests, Traits, Turn,
};
pub use share::{Beginning, Share};

use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering::Acquire, Ordering::Release};
use crate::sync::{DashMap, Mutex, RandomState};
use sent::Sent;
use std::hash::Hash;
use std::sync::Arc;

const SHARDS: usize = 16;

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
    use super::Connections;
    use std::sync::Arc;

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
}
