use std::collections::VecDeque;
use std::mem::size_of;

use super::stamp::Stamp;

/// Stamps of a page. Small enough that a half-used page at either end costs little, large enough that a page's
/// own cost is below a tenth of a byte per stamp.
const PAGE: usize = 128;

/// Pages freed at a time, some 5 us: a million requests may expire between two checks.
const FREED_AT_ONCE: usize = 64;

/// A long log: a queue of stamps in pages.
///
/// Nothing is ever moved. Dropping any number of stamps is arithmetic; the pages they were in are freed some
/// at a time, and until then they count as held.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pages: VecDeque<Box<[Stamp; PAGE]>>,
    /// Pages in front that hold nothing any more.
    dead: usize,
    /// Dropped stamps in them.
    dropped: usize,
    /// Where the first stamp is in the first page that is not dead.
    head: usize,
    len: usize,
}

impl Pages {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, index: usize) -> Stamp {
        let at = self.head + index;
        let page = self.pages.get(self.dead + at / PAGE);
        page.and_then(|page| page.get(at % PAGE))
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn push(&mut self, stamp: Stamp) {
        let at = self.head + self.len;
        let page = self.dead + at / PAGE;
        if page == self.pages.len() {
            self.pages.push_back(Box::new([Stamp::default(); PAGE]));
        }
        if let Some(place) = self.pages.get_mut(page).and_then(|p| p.get_mut(at % PAGE)) {
            *place = stamp;
            self.len += 1;
        }
    }

    /// Drops the first `count` stamps and frees some dead pages; returns how many stamps are no longer held.
    pub(super) fn drop_front(&mut self, count: usize) -> usize {
        let count = count.min(self.len);
        self.len -= count;
        self.dropped += count;
        if self.len == 0 {
            self.head = 0;
            self.dead = self.pages.len();
        } else {
            self.dead += (self.head + count) / PAGE;
            self.head = (self.head + count) % PAGE;
        }
        let freed = self.dead.min(FREED_AT_ONCE);
        self.pages.drain(..freed);
        self.dead -= freed;
        if self.pages.capacity() / 4 > self.pages.len() {
            self.pages.shrink_to(self.pages.len() * 2);
        }
        let released = match self.dead {
            0 => self.dropped,
            _ => self.dropped.min(freed * PAGE),
        };
        self.dropped -= released;
        released
    }

    /// Whether all pages left are in use.
    pub(super) fn is_tidy(&self) -> bool {
        self.dead == 0
    }

    /// Stamps in memory that were paid for: those in the queue and those in dead pages.
    pub(super) fn held(&self) -> usize {
        self.len + self.dropped
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.pages.len() * size_of::<[Stamp; PAGE]>()
            + self.pages.capacity() * size_of::<Box<[Stamp; PAGE]>>()
    }
}
