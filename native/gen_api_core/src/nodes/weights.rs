use std::mem::size_of;

use super::candidates::Candidates;
use super::rng::Rng;
use super::selector::Order;
use super::usable::UsableSet;

/// One weight per candidate, prepared for drawing.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    each: Box<[u32]>,
    /// `sums[i]` = weight of the candidates `0..=i`.
    sums: Box<[u64]>,
}

impl Weights {
    /// The weights of `candidates`, by name. A candidate without one weighs 1; one of weight 0 is never chosen.
    pub fn new(candidates: &Candidates, weight: impl Fn(&str) -> Option<u32>) -> Self {
        let each: Box<[u32]> = candidates
            .iter()
            .map(|node| weight(node.name()).unwrap_or(1))
            .collect();
        let sums = each
            .iter()
            .scan(0u64, |sum, &weight| {
                *sum += u64::from(weight);
                Some(*sum)
            })
            .collect();
        Self { each, sums }
    }

    /// The weight of the candidate at `index`; 0 beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> u32 {
        self.each.get(index).copied().unwrap_or(0)
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.each.len() * (size_of::<u32>() + size_of::<u64>())
    }

    /// One draw. The first is from all candidates, without asking any but the one drawn; when that is unusable,
    /// the second is from the usable ones. Given that the first failed, each usable candidate is still as
    /// likely as its weight says, so the two together are exactly proportional.
    pub(super) fn draw(
        &self,
        candidates: &Candidates,
        usable: impl Fn(usize) -> bool,
        rng: &mut Rng,
    ) -> Option<usize> {
        let total = self.sums.last().copied().filter(|&total| total > 0)?;
        let mark = rng.below(total);
        let drawn = self.sums.partition_point(|&sum| sum <= mark);
        if usable(drawn) {
            return Some(drawn);
        }
        let set = UsableSet::collect(candidates.len(), usable);
        let total = set.iter().map(|i| u64::from(self.get(i))).sum();
        let mut mark = rng.below(total);
        for index in set.iter() {
            let weight = u64::from(self.get(index));
            if mark < weight {
                return Some(index);
            }
            mark -= weight;
        }
        None
    }

    /// The order of successive draws without replacement.
    ///
    /// Efraimidis and Spirakis, 2006: sorting by an exponential variable of rate `weight` each gives exactly
    /// that order, in n log n instead of n².
    pub(super) fn order(
        &self,
        candidates: &Candidates,
        usable: impl Fn(usize) -> bool,
        rng: &mut Rng,
    ) -> Order {
        let mut arrivals: Vec<(f64, u32)> = (0..candidates.len())
            .filter(|&i| self.get(i) > 0 && usable(i))
            .map(|i| (-rng.unit().ln() / f64::from(self.get(i)), i as u32))
            .collect();
        arrivals.sort_unstable_by(|(a, _), (b, _)| a.total_cmp(b));
        arrivals.into_iter().map(|(_, index)| index).collect()
    }
}
