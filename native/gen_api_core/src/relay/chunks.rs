//! A dense vector that can be looked at while it changes.

use std::sync::Arc;

/// Items that are copied when one of them changes while somebody looks at the old ones. Two chunks need few
/// items where every order of threads is tried.
const CHUNK: usize = if cfg!(loom) { 2 } else { 1_024 };

/// A vector in chunks. A snapshot shares them; a change copies only the chunk that it touches,
/// and only while a snapshot holds it. Growing moves one chunk at most.
#[derive(Debug)]
pub(super) struct Chunks<T> {
    chunks: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<T: Copy> Chunks<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, index: usize) -> Option<T> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK).copied()
    }

    pub(super) fn set(&mut self, index: usize, item: T) {
        let chunk = self.chunks.get_mut(index / CHUNK).map(Arc::make_mut);
        if let Some(place) = chunk.and_then(|chunk| chunk.get_mut(index % CHUNK)) {
            *place = item;
        }
    }

    pub(super) fn push(&mut self, item: T) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Arc::default());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            let chunk = Arc::make_mut(chunk);
            if chunk.len() == chunk.capacity() {
                // By an eighth: most groups are small and there are many of them.
                let room = CHUNK - chunk.len();
                chunk.reserve_exact((chunk.len() / 8).clamp(1, room));
            }
            chunk.push(item);
            self.len += 1;
        }
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let chunk = Arc::make_mut(self.chunks.last_mut()?);
        let item = chunk.pop();
        if chunk.is_empty() {
            self.chunks.pop();
        } else if chunk.len() < chunk.capacity() / 2 {
            chunk.shrink_to(chunk.len() + chunk.len() / 4);
        }
        self.len = self.len.saturating_sub(1);
        item
    }

    /// The first `len` items as they are now.
    pub(super) fn snapshot(&self, len: usize) -> Snapshot<T> {
        let chunks = len.div_ceil(CHUNK);
        Snapshot {
            chunks: self.chunks.iter().take(chunks).cloned().collect(),
            len: len.min(self.len),
        }
    }
}

/// Items as they were.
#[derive(Clone, Debug)]
pub struct Snapshot<T> {
    chunks: Vec<Arc<Vec<T>>>,
    len: usize,
}

impl<T: Copy> Snapshot<T> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// At most `count` of them from `start` on.
    pub fn slice(&self, start: usize, count: usize) -> impl Iterator<Item = T> + '_ {
        let end = self.len.min(start.saturating_add(count));
        let chunks = self.chunks.iter().enumerate().skip(start / CHUNK);
        chunks
            .take_while(move |(n, _)| n * CHUNK < end)
            .flat_map(move |(n, chunk)| {
                let first = n * CHUNK;
                let from = start.saturating_sub(first).min(chunk.len());
                let to = end.saturating_sub(first).min(chunk.len());
                chunk.get(from..to).unwrap_or_default().iter().copied()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{Chunks, CHUNK};

    #[test]
    fn a_snapshot_stays_as_it_was_while_items_come_change_and_go() {
        let mut chunks = Chunks::default();
        let count = 3 * CHUNK + 5;
        (0..count).for_each(|n| chunks.push(n));
        let snapshot = chunks.snapshot(count);
        chunks.set(CHUNK, 0);
        assert_eq!(chunks.get(CHUNK), Some(0));
        for n in (0..count).rev() {
            assert_eq!(chunks.pop(), Some(if n == CHUNK { 0 } else { n }));
        }
        assert_eq!(chunks.pop(), None);
        let seen: Vec<usize> = snapshot.slice(0, usize::MAX).collect();
        assert_eq!(seen, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn slices_of_any_size_give_every_item_of_the_snapshot_once_and_none_behind_it() {
        let mut chunks = Chunks::default();
        (0..2 * CHUNK + 10).for_each(|n| chunks.push(n));
        let snapshot = chunks.snapshot(2 * CHUNK + 3);
        for size in [1, 7, CHUNK, CHUNK + 1, 5 * CHUNK] {
            let seen: Vec<usize> = (0..snapshot.len())
                .step_by(size)
                .flat_map(|start| snapshot.slice(start, size))
                .collect();
            assert_eq!(seen, (0..2 * CHUNK + 3).collect::<Vec<_>>());
        }
    }
}
