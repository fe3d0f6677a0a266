use std::mem::size_of;
use std::sync::Arc;

use hashlink::LruCache;

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Mutex, RandomState};

/// From here on a cursor is set back. Far enough from the end that the set back comes before the wrap however
/// many threads are between their add and that.
const SET_BACK: u64 = 1 << 63;

/// Where the round robin of one function stands, shared by all who call it.
///
/// Every turn is one atomic add, so n consecutive turns over n usable nodes are n consecutive numbers modulo
/// n, whoever took them.
#[derive(Debug, Default)]
pub struct Cursor(AtomicU64);

impl Cursor {
    /// A cursor that has made `turns` turns.
    #[must_use]
    pub fn starting_at(turns: u64) -> Self {
        Self(AtomicU64::new(turns))
    }

    /// The next turn over `usable` nodes: a number in `0..usable`, 0 when there are none.
    #[inline]
    pub fn turn(&self, usable: u64) -> u64 {
        let turns = self.0.fetch_add(1, Relaxed);
        if turns >= SET_BACK {
            self.set_back(usable);
        }
        turns.checked_rem(usable).unwrap_or(0)
    }

    /// Goes back by a multiple of `usable`, which changes nobody's next turn. Letting the counter wrap would:
    /// 2^64 is a multiple of no odd number of nodes, and some nodes would get a turn too few.
    #[cold]
    fn set_back(&self, usable: u64) {
        let step = SET_BACK - SET_BACK.checked_rem(usable).unwrap_or(0);
        let _ = self.0.fetch_update(Relaxed, Relaxed, |turns| {
            (turns >= SET_BACK).then(|| turns.saturating_sub(step))
        });
    }

    /// Starts over with the first node.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// The cursors by function. They outlive the compiled form of a function, so that storing it again does not
/// restart its round robin.
///
/// At most `capacity` are remembered. Beyond that the one asked for least recently is forgotten here and goes
/// on working for whoever holds it.
#[derive(Debug)]
pub struct Cursors {
    by_function: Mutex<LruCache<Box<[u8]>, Arc<Cursor>, RandomState>>,
}

impl Cursors {
    /// No cursors yet, and never more than `capacity`.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            by_function: Mutex::new(LruCache::with_hasher(capacity, RandomState::new())),
        }
    }

    /// The cursor of that function; a new one starts with the first node.
    pub fn cursor(&self, function: &[u8]) -> Arc<Cursor> {
        let mut cursors = self.by_function.lock();
        if let Some(cursor) = cursors.get(function) {
            return Arc::clone(cursor);
        }
        let cursor = Arc::new(Cursor::default());
        cursors.insert(function.into(), Arc::clone(&cursor));
        cursor
    }

    /// Starts every remembered cursor over.
    pub fn reset(&self) {
        let cursors = self.by_function.lock();
        cursors.iter().for_each(|(_, cursor)| cursor.reset());
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.by_function.lock().len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, in bytes, without the allocator's own overhead.
    pub fn bytes(&self) -> usize {
        // Key and value, two links and the table slot of the list node; the two counters of the Arc.
        let fixed = size_of::<(Box<[u8]>, Arc<Cursor>)>() + 3 * size_of::<usize>();
        let cursor = size_of::<Cursor>() + 2 * size_of::<usize>();
        let cursors = self.by_function.lock();
        let keys: usize = cursors.iter().map(|(function, _)| function.len()).sum();
        cursors.len() * (fixed + cursor) + keys
    }
}
