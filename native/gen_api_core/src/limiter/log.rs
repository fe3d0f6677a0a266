use std::collections::VecDeque;
use std::mem::size_of;

use super::pages::Pages;
use super::stamp::Stamp;

/// Requests that need no memory of their own.
const INLINE: usize = 8;
/// Longest ring. Growing one copies it, so it stays short.
const RING: usize = 512;
/// A log has to fall well below the size it grew at before it changes back, or one at the edge would change
/// with every request.
const INLINE_AGAIN: usize = INLINE / 2;
const RING_AGAIN: usize = RING / 4;

/// A queue of stamps whose memory follows its length.
#[derive(Debug)]
pub(super) enum Log {
    Few { len: u8, stamps: [Stamp; INLINE] },
    Ring(VecDeque<Stamp>),
    Pages(Box<Pages>),
}

impl Default for Log {
    fn default() -> Self {
        Self::Few {
            len: 0,
            stamps: [Stamp::default(); INLINE],
        }
    }
}

impl Log {
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Few { len, .. } => usize::from(*len),
            Self::Ring(ring) => ring.len(),
            Self::Pages(pages) => pages.len(),
        }
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Stamp {
        match self {
            Self::Few { stamps, .. } => stamps.get(index).copied().unwrap_or_default(),
            Self::Ring(ring) => ring.get(index).copied().unwrap_or_default(),
            Self::Pages(pages) => pages.get(index),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, stamp: Stamp) {
        match self {
            Self::Few { len, stamps } => match stamps.get_mut(usize::from(*len)) {
                Some(place) => {
                    *place = stamp;
                    *len += 1;
                }
                None => *self = Self::ring(stamps.iter().copied(), stamp),
            },
            Self::Ring(ring) if ring.len() < RING => {
                if ring.len() == ring.capacity() {
                    ring.reserve_exact((ring.len() / 4).max(INLINE));
                }
                ring.push_back(stamp);
            }
            Self::Ring(ring) => {
                let mut pages = Pages::default();
                ring.iter().for_each(|stamp| pages.push(*stamp));
                pages.push(stamp);
                *self = Self::Pages(Box::new(pages));
            }
            Self::Pages(pages) => pages.push(stamp),
        }
    }

    /// Drops the first `count` stamps; returns how many are no longer held, which may be fewer for now, or
    /// more if memory was left over from before.
    #[inline]
    pub(super) fn drop_front(&mut self, count: usize) -> usize {
        match self {
            Self::Few { len, stamps } => {
                let count = count.min(usize::from(*len));
                if count > 0 {
                    stamps.copy_within(count.., 0);
                    *len -= count as u8;
                }
                count
            }
            Self::Ring(ring) => {
                let count = count.min(ring.len());
                ring.drain(..count);
                if ring.len() <= INLINE_AGAIN {
                    *self = Self::few(ring);
                } else if ring.len() < ring.capacity() / 4 {
                    ring.shrink_to(ring.len() * 2);
                }
                count
            }
            Self::Pages(pages) => {
                let released = pages.drop_front(count);
                if pages.is_tidy() && pages.len() <= RING_AGAIN {
                    let ring = (0..pages.len()).map(|i| pages.get(i)).collect();
                    *self = if pages.len() <= INLINE_AGAIN {
                        Self::few(&ring)
                    } else {
                        Self::Ring(ring)
                    };
                }
                released
            }
        }
    }

    /// Stamps in memory: those in the queue, and dropped ones whose memory was not freed yet.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Few { .. } | Self::Ring(_) => self.len(),
            Self::Pages(pages) => pages.held(),
        }
    }

    /// Memory held outside of the value itself.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Few { .. } => 0,
            Self::Ring(ring) => ring.capacity() * size_of::<Stamp>(),
            Self::Pages(pages) => pages.bytes(),
        }
    }

    fn ring(stamps: impl Iterator<Item = Stamp>, last: Stamp) -> Self {
        let mut ring = VecDeque::with_capacity(2 * INLINE);
        ring.extend(stamps);
        ring.push_back(last);
        Self::Ring(ring)
    }

    fn few(ring: &VecDeque<Stamp>) -> Self {
        let mut few = Self::default();
        ring.iter().for_each(|stamp| few.push(*stamp));
        few
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::{Log, Stamp};

    fn contents(log: &Log) -> Vec<u64> {
        (0..log.len())
            .map(|i| u64::MAX - log.get(i).age(u64::MAX))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_log_is_a_queue_at_every_length(
            steps in prop::collection::vec((0usize..700, 0usize..900), 1..40)
        ) {
            let mut log = Log::default();
            let mut model = VecDeque::new();
            let mut held = 0;
            let mut time = u64::MAX - 100_000;
            for (pushed, dropped) in steps {
                for _ in 0..pushed {
                    time += 1;
                    log.push(Stamp::new(time));
                    model.push_back(time);
                }
                let dropped = dropped.min(model.len());
                held += pushed;
                held -= log.drop_front(dropped);
                model.drain(..dropped);
                prop_assert_eq!(contents(&log), Vec::from(model.clone()));
                prop_assert_eq!(log.held(), held);
                prop_assert!(held >= model.len());
            }
        }
    }

    #[test]
    fn a_long_log_is_freed_in_slices_and_ends_without_memory() {
        let mut log = Log::default();
        (0..1_000_000).for_each(|time| log.push(Stamp::new(time)));
        assert!(log.bytes() < 8 * 1_000_000);
        let mut left = 1_000_000;
        let mut released = log.drop_front(left);
        assert_eq!(log.len(), 0);
        while left > 0 {
            assert!((1..=8_192).contains(&released));
            left -= released;
            assert_eq!(log.held(), left);
            released = log.drop_front(0);
        }
        assert_eq!(log.bytes(), 0);
    }

    #[test]
    fn the_memory_of_a_shrinking_log_shrinks() {
        for length in [9, 100, 512, 513, 5_000] {
            let mut log = Log::default();
            (0..length).for_each(|time| log.push(Stamp::new(time)));
            for left in (0..length as usize).rev() {
                log.drop_front(1);
                assert!(log.bytes() <= 4 * 7 * left + 2_048);
            }
            assert_eq!(log.bytes(), 0);
        }
    }
}
