use std::cmp::Reverse;

use super::candidates::Candidates;
use super::hash::score;
use super::selector::Order;

/// The usable candidate with the highest score.
///
/// While the highest score of all belongs to a usable candidate, no other candidate's node is touched. When it
/// does not, each candidate that beats the best so far is asked: about ln(n) of n, scores being random.
pub(super) fn best(
    candidates: &Candidates,
    key_hash: u64,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    // Without a branch to mispredict: which candidate wins, no processor can foresee.
    let (mut top, mut winner, mut tied) = (0, 0, false);
    for (index, &node_hash) in candidates.hashes().iter().enumerate() {
        let score = score(key_hash, node_hash);
        // Also when a higher one follows: too rare to matter.
        tied |= score == top;
        winner = if score > top { index } else { winner };
        top = top.max(score);
    }
    if !tied && usable(winner) {
        return Some(winner);
    }
    best_usable(candidates, key_hash, usable)
}

#[cold]
fn best_usable(
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
