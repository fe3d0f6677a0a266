use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Most credits that a shard fetches at a time.
const LARGEST_BATCH: usize = 256;

/// The entries that may still be recorded, by anyone.
///
/// Shards take credits in batches, or every check would write to this one cache line. The fewer are left, the
/// smaller the batches, so little is idle in the hands of shards when the pool runs dry.
#[derive(Debug)]
pub(super) struct Pool {
    left: AtomicUsize,
    /// A sixteenth of a shard's share, as a shift.
    shift: u32,
}

/// Credits in the hands of one shard.
#[derive(Debug, Default)]
pub(super) struct Credit(usize);

impl Pool {
    /// For a number of shards that is a power of two.
    pub(super) fn new(entries: usize, shards: usize) -> Self {
        Self {
            left: AtomicUsize::new(entries),
            shift: (shards * 16).trailing_zeros(),
        }
    }

    pub(super) fn left(&self) -> usize {
        self.left.load(Relaxed)
    }

    fn batch(&self) -> usize {
        (self.left() >> self.shift).clamp(1, LARGEST_BATCH)
    }

    fn take(&self, wanted: usize) -> usize {
        let less = |left: usize| (left > 0).then(|| left.saturating_sub(wanted));
        self.left
            .fetch_update(Relaxed, Relaxed, less)
            .map_or(0, |left| left.min(wanted))
    }
}

impl Credit {
    pub(super) fn left(&self) -> usize {
        self.0
    }

    /// Pays for one entry; false if neither this nor the pool has a credit.
    #[inline]
    pub(super) fn pay(&mut self, pool: &Pool) -> bool {
        if self.0 == 0 {
            self.0 = pool.take(pool.batch());
        }
        let paid = self.0 > 0;
        self.0 -= usize::from(paid);
        paid
    }

    /// Takes back what `entries` were paid with.
    #[inline]
    pub(super) fn refund(&mut self, entries: usize, pool: &Pool) {
        if entries > 0 {
            self.0 += entries;
            let batch = pool.batch();
            if self.0 > 2 * batch {
                pool.left.fetch_add(self.0 - batch, Relaxed);
                self.0 = batch;
            }
        }
    }

    /// Hands everything back to the pool.
    pub(super) fn return_to(&mut self, pool: &Pool) {
        pool.left.fetch_add(std::mem::take(&mut self.0), Relaxed);
    }
}
