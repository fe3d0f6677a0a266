use smallvec::SmallVec;

/// Which candidates are usable, asked once each.
///
/// Counting them and then finding the k-th must not ask twice: a node that goes down in between would hand
/// its turn to its successor. One bit per candidate; up to 1,024 candidates need no allocation.
pub(super) struct UsableSet {
    words: SmallVec<[u64; 16]>,
    len: usize,
}

impl UsableSet {
    pub(super) fn collect(candidates: usize, usable: impl Fn(usize) -> bool) -> Self {
        let mut words = SmallVec::with_capacity(candidates.div_ceil(64));
        let mut len = 0;
        for first in (0..candidates).step_by(64) {
            let mut word = 0u64;
            for index in first..candidates.min(first + 64) {
                word |= u64::from(usable(index)) << (index - first);
            }
            len += word.count_ones() as usize;
            words.push(word);
        }
        Self { words, len }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        let word = self.words.get(index / 64);
        word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    pub(super) fn nth(&self, mut n: usize) -> Option<usize> {
        for (at, &word) in self.words.iter().enumerate() {
            let ones = word.count_ones() as usize;
            if n < ones {
                // No gap below the last one, as with healthy nodes: no loop that nobody can predict.
                if word & word.wrapping_add(1) == 0 {
                    return Some(at * 64 + n);
                }
                let rest = (0..n).fold(word, |word, _| word & word.wrapping_sub(1));
                return Some(at * 64 + rest.trailing_zeros() as usize);
            }
            n -= ones;
        }
        None
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let rest = std::iter::successors(Some(word), |word| Some(word & word.wrapping_sub(1)));
            rest.take_while(|&word| word != 0)
                .map(move |word| at * 64 + word.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::UsableSet;

    #[test]
    fn nth_and_iter_agree_with_a_plain_filter() {
        for (candidates, step) in [
            (0, 1),
            (1, 1),
            (63, 2),
            (64, 1),
            (65, 64),
            (2_000, 7),
            (130, 200),
        ] {
            let expected: Vec<usize> = (0..candidates).filter(|i| i % step == 0).collect();
            let set = UsableSet::collect(candidates, |i| i % step == 0);
            assert_eq!(set.len(), expected.len());
            assert_eq!(set.iter().collect::<Vec<_>>(), expected);
            let nth: Vec<usize> = (0..).map_while(|n| set.nth(n)).collect();
            assert_eq!(nth, expected);
        }
    }
}
