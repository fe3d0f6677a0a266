use std::hint::black_box;

use smallvec::SmallVec;

use super::hasher::Hashed;
use super::limit::Limit;
use super::limiter::Limiter;
use super::rule::Denial;
use super::shard::{Place, Shard};
use crate::clock::Nanos;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::MutexGuard;

/// Charges of one check that need no allocation.
const INLINE_CHARGES: usize = 4;
/// Other shards asked for idle credits by a check that finds none.
const SHARDS_ASKED: usize = 8;

/// What becomes of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was recorded for every charge.
    Admitted,
    /// A limit is reached; nothing was recorded.
    Denied {
        /// Which charge denies it; of several, the first of those with the longest `retry_after`.
        index: usize,
        /// After this time it can be admitted, and not one nanosecond earlier, unless others are first.
        retry_after: Nanos,
        /// Requests that count for this charge.
        current: u32,
    },
    /// No limit is reached, but there is no room to record it, and it was not recorded.
    Overflow,
}

type Charges<'a> = SmallVec<[Charge<'a>; INLINE_CHARGES]>;
type Locked<'a> = SmallVec<[MutexGuard<'a, Shard>; INLINE_CHARGES]>;

/// One charge of a check of several.
struct Charge<'a> {
    limit: &'a Limit,
    value: &'a [u8],
    value_hash: u64,
    hashed: Hashed,
    /// Earlier charges of the same window.
    ahead: u32,
    /// Which of the locked shards it is in.
    guard: usize,
    place: Place,
}

impl Charge<'_> {
    fn is_new(&self) -> bool {
        self.place.is_new() && self.ahead == 0
    }
}

impl Limiter {
    /// Decides a request and records it for every charge, a limit and a value each, or for none.
    ///
    /// A charge listed twice counts twice. Without a charge every request is admitted. Some 50 ns per charge
    /// in cache; waits for other checks of values in the same shards.
    #[inline]
    pub fn check(&self, charges: &[(&Limit, &[u8])], now: Nanos) -> Decision {
        match charges {
            [] => Decision::Admitted,
            [(limit, value)] => self.check_one(limit, value, now),
            _ => self.check_all(charges, now),
        }
    }

    /// The same for one charge.
    #[inline]
    pub fn check_one(&self, limit: &Limit, value: &[u8], now: Nanos) -> Decision {
        let hashed = self.hasher.hash(limit.id(), value);
        let Some(slot) = self.shards.get(hashed.shard) else {
            return Decision::Overflow;
        };
        let mut shard = slot.lock();
        for reclaimed in [false, true] {
            let place = match shard.probe(hashed, limit, value, now, 0) {
                Ok(place) => place,
                Err(denial) => return denied(0, denial),
            };
            if shard.reserve(limit, place.is_new(), self.caps.max_keys, &self.pool) {
                shard.admit(hashed, limit, value, place, &self.pool);
                return Decision::Admitted;
            }
            if !reclaimed {
                shard.sweep_place(place, now, &self.hasher, &self.pool);
                shard.sample(now, &self.hasher, &self.pool);
                self.collect_credits();
            }
        }
        self.overflow()
    }

    fn check_all(&self, given: &[(&Limit, &[u8])], now: Nanos) -> Decision {
        let mut charges = Charges::new();
        for (limit, value) in given {
            self.place(limit, value, &mut charges);
        }
        let mut locked = self.lock(&mut charges);
        touch(&charges, &locked);
        for reclaimed in [false, true] {
            if let Err((index, denial)) = probe_all(&mut charges, &locked, now) {
                return denied(index, denial);
            }
            if self.reserve_all(&charges, &mut locked) {
                self.admit_all(&charges, &mut locked);
                return Decision::Admitted;
            }
            if !reclaimed {
                self.reclaim(&charges, &mut locked, now);
            }
        }
        self.overflow()
    }

    #[inline]
    fn place<'a>(&self, limit: &'a Limit, value: &'a [u8], charges: &mut Charges<'a>) {
        // Several limits on one user are the rule.
        let value_hash = match charges.last() {
            Some(last) if last.value == value => last.value_hash,
            _ => self.hasher.value(value),
        };
        let hashed = self.hasher.place(limit.id(), value_hash);
        let same = |other: &&Charge<'_>| {
            other.hashed.tag == hashed.tag && other.limit.id() == limit.id() && other.value == value
        };
        charges.push(Charge {
            limit,
            value,
            value_hash,
            hashed,
            ahead: charges.iter().filter(same).count() as u32,
            guard: 0,
            place: Place::default(),
        });
    }

    /// Locks the shards of all charges, in the order that everyone keeps to.
    #[inline]
    fn lock(&self, charges: &mut Charges<'_>) -> Locked<'_> {
        let mut shards: SmallVec<[usize; INLINE_CHARGES]> = SmallVec::new();
        for charge in charges.iter() {
            if shards.last() != Some(&charge.hashed.shard) {
                shards.push(charge.hashed.shard);
            }
        }
        if shards.len() > 1 {
            shards.sort_unstable();
            shards.dedup();
            for charge in charges {
                charge.guard = shards.partition_point(|shard| *shard < charge.hashed.shard);
            }
        }
        let slots = shards.iter().filter_map(|shard| self.shards.get(*shard));
        slots.map(|slot| slot.lock()).collect()
    }

    #[inline]
    fn reserve_all(&self, charges: &[Charge<'_>], locked: &mut Locked<'_>) -> bool {
        for (index, charge) in charges.iter().enumerate() {
            let reserved = locked.get_mut(charge.guard).is_some_and(|shard| {
                shard.reserve(
                    charge.limit,
                    charge.is_new(),
                    self.caps.max_keys,
                    &self.pool,
                )
            });
            if !reserved {
                for charge in charges.iter().take(index) {
                    if let Some(shard) = locked.get_mut(charge.guard) {
                        shard.cancel(charge.limit, charge.is_new(), &self.pool);
                    }
                }
                return false;
            }
        }
        true
    }

    #[inline]
    fn admit_all(&self, charges: &[Charge<'_>], locked: &mut Locked<'_>) {
        for charge in charges {
            let (hashed, limit, value) = (charge.hashed, charge.limit, charge.value);
            if let Some(shard) = locked.get_mut(charge.guard) {
                let place = match charge.ahead {
                    0 => charge.place,
                    _ => shard.relocate(hashed, limit, value, charge.place),
                };
                shard.admit(hashed, limit, value, place, &self.pool);
            }
        }
    }

    /// Makes room by whatever can be done at once: windows that this check or a sample touches are reclaimed,
    /// and idle credits collected.
    #[cold]
    fn reclaim(&self, charges: &[Charge<'_>], locked: &mut Locked<'_>, now: Nanos) {
        for charge in charges {
            if let Some(shard) = locked.get_mut(charge.guard) {
                // Looked up again each time, because windows move when one is reclaimed.
                if let Ok(place) = shard.probe(charge.hashed, charge.limit, charge.value, now, 0) {
                    shard.sweep_place(place, now, &self.hasher, &self.pool);
                }
            }
        }
        for shard in locked.iter_mut() {
            shard.sample(now, &self.hasher, &self.pool);
            shard.return_credit(&self.pool);
        }
        self.collect_credits();
    }

    /// Asks some other shards for credits that they do not need now. Nobody is waited for.
    #[cold]
    fn collect_credits(&self) {
        if self.pool.left() >= INLINE_CHARGES {
            return;
        }
        let asked = SHARDS_ASKED.min(self.shards.len());
        let first = self.asked.fetch_add(asked, Relaxed);
        for index in first..first.wrapping_add(asked) {
            let slot = self.shards.get(index & (self.shards.len() - 1));
            if let Some(mut shard) = slot.and_then(|slot| slot.try_lock()) {
                shard.return_credit(&self.pool);
            }
        }
    }

    #[cold]
    fn overflow(&self) -> Decision {
        self.overflowed.fetch_add(1, Relaxed);
        Decision::Overflow
    }
}

/// Reads a byte of every window, so that the waits for memory overlap instead of adding up.
#[inline]
fn touch(charges: &[Charge<'_>], locked: &Locked<'_>) {
    let touched = charges.iter().filter(|charge| {
        locked
            .get(charge.guard)
            .is_some_and(|shard| shard.touch(charge.hashed))
    });
    black_box(touched.count());
}

#[inline]
fn probe_all(
    charges: &mut [Charge<'_>],
    locked: &Locked<'_>,
    now: Nanos,
) -> Result<(), (usize, Denial)> {
    let mut worst: Option<(usize, Denial)> = None;
    for (index, charge) in charges.iter_mut().enumerate() {
        let Some(shard) = locked.get(charge.guard) else {
            continue;
        };
        match shard.probe(charge.hashed, charge.limit, charge.value, now, charge.ahead) {
            Ok(place) => charge.place = place,
            Err(denial) => {
                let longer = |(_, other): (_, Denial)| denial.retry_after > other.retry_after;
                if worst.is_none_or(longer) {
                    worst = Some((index, denial));
                }
            }
        }
    }
    worst.map_or(Ok(()), Err)
}

fn denied(index: usize, denial: Denial) -> Decision {
    Decision::Denied {
        index,
        retry_after: denial.retry_after,
        current: denial.current,
    }
}
