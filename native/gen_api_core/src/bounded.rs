//! Values that clients choose, as keys of bounded size.
//!
//! A table that keeps what clients send must not keep it whole: two thousand values of 200 kB would take
//! 400 MB. A value of up to [`MAX_BYTES`] bytes is kept as it is; a longer one as a keyed hash of 128 bits, which
//! nobody who does not know the keys can make collide. The keys are random and never leave this process.

use std::borrow::Cow;

use crate::sync::RandomState;

/// Most bytes of a value that is kept as it is.
pub const MAX_BYTES: usize = 64;

/// First bytes of keys that are no text: none of the two begins a character in UTF-8.
const HASHED: u8 = 0xFF;
/// See [`HASHED`]. For keys that are made of something else than text, such as addresses.
pub(crate) const TAGGED: u8 = 0xFE;

/// The keys of the hash.
#[derive(Debug)]
pub struct Bounded {
    low: RandomState,
    high: RandomState,
}

impl Default for Bounded {
    fn default() -> Self {
        Self {
            low: RandomState::new(),
            high: RandomState::new(),
        }
    }
}

impl Bounded {
    /// The key for a value: different values have different keys, which are at most [`MAX_BYTES`] bytes long.
    #[inline]
    pub fn key<'v>(&self, value: Cow<'v, [u8]>) -> Cow<'v, [u8]> {
        // A value that looks like a key of another kind is hashed too, so that it is none.
        if value.len() <= MAX_BYTES && value.first().is_none_or(|first| *first < TAGGED) {
            return value;
        }
        Cow::Owned(self.hashed(&value))
    }

    #[cold]
    fn hashed(&self, value: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(17);
        key.push(HASHED);
        key.extend_from_slice(&self.low.hash_one(value).to_le_bytes());
        key.extend_from_slice(&self.high.hash_one(value).to_le_bytes());
        key
    }
}

#[cfg(test)]
mod tests {
    use super::{Bounded, MAX_BYTES};
    use std::borrow::Cow;
    use std::collections::HashSet;

    #[test]
    fn short_text_is_kept_and_longer_text_is_not() {
        let bounded = Bounded::default();
        let short = "é".repeat(MAX_BYTES / 2);
        assert_eq!(
            *bounded.key(Cow::Borrowed(short.as_bytes())),
            *short.as_bytes()
        );
        let long = vec![b'x'; 200_000];
        assert_eq!(bounded.key(Cow::Borrowed(&long)).len(), 17);
    }

    #[test]
    fn values_that_differ_have_keys_that_differ() {
        let bounded = Bounded::default();
        let mut keys = HashSet::new();
        for length in 0..200usize {
            for last in [b'a', b'b', 0xFE, 0xFF] {
                for first in [b'a', 0xFE, 0xFF] {
                    let mut value = vec![first; length];
                    value.push(last);
                    keys.insert(bounded.key(Cow::Owned(value)).into_owned());
                }
            }
        }
        // The twelve of one byte are four.
        assert_eq!(keys.len(), 199 * 12 + 4);
    }

    #[test]
    fn no_value_is_taken_for_the_key_of_another() {
        let bounded = Bounded::default();
        let key = bounded.key(Cow::Owned(vec![b'x'; 1_000])).into_owned();
        assert_ne!(bounded.key(Cow::Borrowed(&key)), key);
    }

    #[test]
    fn other_keys_hash_otherwise() {
        let value = vec![b'x'; 1_000];
        let (one, other) = (Bounded::default(), Bounded::default());
        assert_ne!(
            one.key(Cow::Borrowed(&value)),
            other.key(Cow::Borrowed(&value))
        );
    }
}
