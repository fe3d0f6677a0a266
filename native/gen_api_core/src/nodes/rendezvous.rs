use std::cmp::Reverse;

use super::candidates::Candidates;
use super::hash::score;
use super::selector::Order;

/// The usable candidate with the highest score.
///
/// Only a candidate that beats the best so far is asked whether it is usable. Scores are random, so that
/// happens about ln(n) times for n candidates, and the nodes behind the others are never touched.
pub(super) fn best(
    candidates: &Candidates,
    key_hash: u64,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut best: Option<(u64, usize)> = None;
    for (index, &node_hash) in candidates.hashes().iter().enumerate() {
        let score = score(key_hash, node_hash);
        let better = match best {
            None => true,
            Some((top, _)) if score != top => score > top,
            Some((_, holder)) => candidates.name(index) < candidates.name(holder),
        };
        if better && usable(index) {
            best = Some((score, index));
        }
    }
    best.map(|(_, index)| index)
}

/// All usable candidates, highest score first, equal scores by name.
pub(super) fn order(
    candidates: &Candidates,
    key_hash: u64,
    usable: impl Fn(usize) -> bool,
) -> Order {
    let mut scored: Vec<(u64, u32)> = candidates
        .hashes()
        .iter()
        .enumerate()
        .filter(|&(index, _)| usable(index))
        .map(|(index, &node_hash)| (score(key_hash, node_hash), index as u32))
        .collect();
    scored
        .sort_unstable_by_key(|&(score, index)| (Reverse(score), candidates.name(index as usize)));
    scored.into_iter().map(|(_, index)| index).collect()
}
