use super::limit::LimitId;
use crate::sync::RandomState;

/// Hashes with random keys, so that nobody can choose values that collide.
#[derive(Debug)]
pub(super) struct Hasher {
    keys: RandomState,
    shards: usize,
}

/// Where a window belongs. The shard follows from the value alone: the limits on one user share a lock.
#[derive(Copy, Clone, Debug)]
pub(super) struct Hashed {
    pub(super) shard: usize,
    pub(super) tag: u32,
}

impl Hasher {
    /// For a number of shards that is a power of two.
    pub(super) fn new(shards: usize) -> Self {
        Self {
            keys: RandomState::new(),
            shards,
        }
    }

    #[inline]
    pub(super) fn value(&self, value: &[u8]) -> u64 {
        self.keys.hash_one(value)
    }

    #[inline]
    pub(super) fn place(&self, limit: LimitId, value_hash: u64) -> Hashed {
        // An odd factor moves every limit elsewhere; the product folds all bits into the tag.
        let mixed = value_hash ^ limit.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let product = u128::from(mixed) * 0xD6E8_FEB8_6659_FD93;
        Hashed {
            shard: value_hash as usize & (self.shards - 1),
            tag: (product as u64 ^ (product >> 64) as u64) as u32,
        }
    }

    #[inline]
    pub(super) fn hash(&self, limit: LimitId, value: &[u8]) -> Hashed {
        self.place(limit, self.value(value))
    }
}
