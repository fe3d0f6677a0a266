use std::mem::size_of;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};
use smallvec::SmallVec;

use super::hasher::{Hashed, Hasher};
use super::limit::{Limit, LimitId, Registry};
use super::pool::Pool;
use super::rule::{Denial, Rule};
use super::shard::{Place, Shard};
use crate::clock::Nanos;

/// Charges of one check that need no allocation.
const CHARGES: usize = 4;
/// Windows tended under one lock, so that no check waits long for a sweep.
const UNDER_ONE_LOCK: usize = 64;
/// Other shards asked for idle credits by a check that finds none.
const ASKED: usize = 8;
/// More shards than this would cost more than they spare.
const MOST_SHARDS: usize = 4_096;

/// How a limiter is cut, and how much it may hold.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Number of locks; rounded up to a power of two. Changes no result. Some KB each.
    pub shards: usize,
    /// Most windows per limit.
    pub max_keys: usize,
    /// Most recorded requests in all.
    pub max_entries: usize,
}

impl Default for Caps {
    /// 64 shards, 1,000,000 keys, 16,000,000 entries.
    fn default() -> Self {
        Self {
            shards: 64,
            max_keys: 1_000_000,
            max_entries: 16_000_000,
        }
    }
}

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

/// How far a limit is used by a value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Requests that count.
    pub current: u32,
    /// Requests that would be admitted now.
    pub remaining: u32,
    /// Time until one would be admitted.
    pub retry_after: Nanos,
}

/// What a slice of a sweep did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Windows removed.
    pub windows: usize,
    /// Whether the sweep has not seen every window yet.
    pub more: bool,
}

/// What a limiter holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Windows, expired ones that were not reclaimed yet included.
    pub windows: usize,
    /// Recorded requests, expired ones that were not reclaimed yet included.
    pub entries: usize,
    /// Checks that found no room, so far.
    pub overflowed: u64,
    /// Memory in bytes, without the allocator's own overhead.
    pub bytes: usize,
}

/// An instance of all state: windows by limit and value.
///
/// Limits are compiled with [`Limiter::limit`] and belong to the limiter that compiled them. The time is a
/// parameter and has to come from one monotonic clock. A window's time never runs backwards: a request with a
/// time before that of the last one in its window counts as made together with that one.
#[derive(Debug)]
pub struct Limiter {
    shards: Box<[Slot]>,
    hasher: Hasher,
    registry: Registry,
    pool: Pool,
    caps: Caps,
    overflowed: AtomicU64,
    /// The shard that a sweep is at.
    sweeping: Mutex<usize>,
    /// The shard asked last for idle credits.
    asked: AtomicUsize,
}

/// On cache lines of its own, or two locks would slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Slot(Mutex<Shard>);

type Locked<'a> = SmallVec<[(usize, MutexGuard<'a, Shard>); CHARGES]>;

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
}

impl Limiter {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(caps: Caps) -> Self {
        let shards = caps.shards.clamp(1, MOST_SHARDS).next_power_of_two();
        Self {
            shards: (0..shards).map(|_| Slot::default()).collect(),
            hasher: Hasher::new(shards),
            registry: Registry::default(),
            pool: Pool::new(caps.max_entries, shards),
            caps,
            overflowed: AtomicU64::new(0),
            sweeping: Mutex::new(0),
            asked: AtomicUsize::new(0),
        }
    }

    /// Compiles a limit. Limits of the same name and length of window share their windows, so a limit may be
    /// replaced by one with another number of requests and keeps its counts.
    #[must_use]
    pub fn limit(&self, name: &[u8], rule: Rule) -> Limit {
        self.registry.limit(name, rule)
    }

    /// Removes a limit: a new one of the same name starts with no counts, and sweeps drop the windows of this
    /// one. Whether there was one. Checks that still use it are decided as before.
    pub fn forget(&self, limit: LimitId) -> bool {
        self.registry.forget(limit)
    }

    /// Decides a request and records it for every charge, a limit and a value each, or for none.
    ///
    /// A charge listed twice counts twice. Without a charge every request is admitted. Some 100 ns per charge;
    /// waits for other checks of values in the same shards.
    #[inline]
    pub fn check(&self, charges: &[(&Limit, &[u8])], now: Nanos) -> Decision {
        match charges {
            [] => Decision::Admitted,
            [(limit, value)] => self.check_one(limit, value, now),
            _ => self.check_all(charges, now),
        }
    }

    fn check_one(&self, limit: &Limit, value: &[u8], now: Nanos) -> Decision {
        let hashed = self.hasher.hash(limit.id(), value);
        let Some(slot) = self.shards.get(hashed.shard) else {
            return Decision::Overflow;
        };
        let mut shard = slot.0.lock();
        for pressed in [false, true] {
            let place = match shard.probe(hashed, limit, value, now, 0) {
                Ok(place) => place,
                Err(denial) => return denied(0, denial),
            };
            if shard.reserve(limit, place.is_new(), self.caps.max_keys, &self.pool) {
                shard.admit(hashed, limit, value, place, &self.pool);
                return Decision::Admitted;
            }
            if !pressed {
                shard.tend_place(place, now, &self.hasher, &self.pool);
                shard.glance(now, &self.hasher, &self.pool);
                self.collect_credits();
            }
        }
        self.overflow()
    }

    fn check_all(&self, charges: &[(&Limit, &[u8])], now: Nanos) -> Decision {
        let mut charges = self.charges(charges);
        let mut locked = self.lock(&mut charges);
        for pressed in [false, true] {
            let places = match probe_all(&charges, &locked, now) {
                Ok(places) => places,
                Err((index, denial)) => return denied(index, denial),
            };
            if self.reserve_all(&charges, &places, &mut locked) {
                self.admit_all(&charges, &places, &mut locked);
                return Decision::Admitted;
            }
            if !pressed {
                self.press(&charges, &mut locked, now);
            }
        }
        self.overflow()
    }

    fn charges<'a>(&self, charges: &[(&'a Limit, &'a [u8])]) -> SmallVec<[Charge<'a>; CHARGES]> {
        let mut placed = SmallVec::<[Charge<'a>; CHARGES]>::new();
        for &(limit, value) in charges {
            // Several limits on one user are the rule.
            let value_hash = match placed.last() {
                Some(last) if last.value == value => last.value_hash,
                _ => self.hasher.value(value),
            };
            let hashed = self.hasher.place(limit.id(), value_hash);
            let same = |other: &&Charge<'_>| {
                other.hashed.tag == hashed.tag
                    && other.limit.id() == limit.id()
                    && other.value == value
            };
            placed.push(Charge {
                limit,
                value,
                value_hash,
                hashed,
                ahead: placed.iter().filter(same).count() as u32,
                guard: 0,
            });
        }
        placed
    }

    /// Locks the shards of all charges, in the order that everyone keeps to.
    fn lock(&self, charges: &mut [Charge<'_>]) -> Locked<'_> {
        let mut shards: SmallVec<[usize; CHARGES]> =
            charges.iter().map(|charge| charge.hashed.shard).collect();
        shards.sort_unstable();
        shards.dedup();
        for charge in charges {
            charge.guard = shards.partition_point(|shard| *shard < charge.hashed.shard);
        }
        shards
            .into_iter()
            .filter_map(|index| Some((index, self.shards.get(index)?.0.lock())))
            .collect()
    }

    fn reserve_all(
        &self,
        charges: &[Charge<'_>],
        places: &[Place],
        locked: &mut Locked<'_>,
    ) -> bool {
        let is_new = |charge: &Charge<'_>, place: &Place| place.is_new() && charge.ahead == 0;
        let reserved = charges
            .iter()
            .zip(places)
            .take_while(|(charge, place)| {
                let new = is_new(charge, place);
                locked.get_mut(charge.guard).is_some_and(|(_, shard)| {
                    shard.reserve(charge.limit, new, self.caps.max_keys, &self.pool)
                })
            })
            .count();
        if reserved == charges.len() {
            return true;
        }
        for (charge, place) in charges.iter().zip(places).take(reserved) {
            if let Some((_, shard)) = locked.get_mut(charge.guard) {
                shard.cancel(charge.limit, is_new(charge, place), &self.pool);
            }
        }
        false
    }

    fn admit_all(&self, charges: &[Charge<'_>], places: &[Place], locked: &mut Locked<'_>) {
        for (charge, place) in charges.iter().zip(places) {
            let Charge {
                limit,
                value,
                hashed,
                ..
            } = *charge;
            if let Some((_, shard)) = locked.get_mut(charge.guard) {
                let place = match charge.ahead {
                    0 => *place,
                    _ => shard.relocate(hashed, limit, value, *place),
                };
                shard.admit(hashed, limit, value, place, &self.pool);
            }
        }
    }

    /// Makes room by whatever can be done at once: windows that this check or a glance touches are reclaimed,
    /// and idle credits collected.
    fn press(&self, charges: &[Charge<'_>], locked: &mut Locked<'_>, now: Nanos) {
        for charge in charges {
            if let Some((_, shard)) = locked.get_mut(charge.guard) {
                // Looked up again each time, because windows move when one is reclaimed.
                if let Ok(place) = shard.probe(charge.hashed, charge.limit, charge.value, now, 0) {
                    shard.tend_place(place, now, &self.hasher, &self.pool);
                }
            }
        }
        for (_, shard) in locked.iter_mut() {
            shard.glance(now, &self.hasher, &self.pool);
            shard.surrender_credit(&self.pool);
        }
        self.collect_credits();
    }

    /// Asks some other shards for credits that they do not need now. Nobody is waited for.
    fn collect_credits(&self) {
        if self.pool.left() >= CHARGES {
            return;
        }
        let asked = ASKED.min(self.shards.len());
        let first = self.asked.fetch_add(asked, Relaxed);
        for index in first..first.wrapping_add(asked) {
            let slot = self.shards.get(index & (self.shards.len() - 1));
            if let Some(mut shard) = slot.and_then(|slot| slot.0.try_lock()) {
                shard.surrender_credit(&self.pool);
            }
        }
    }

    fn overflow(&self) -> Decision {
        self.overflowed.fetch_add(1, Relaxed);
        Decision::Overflow
    }

    /// How far a limit is used by a value; records nothing.
    pub fn peek(&self, limit: &Limit, value: &[u8], now: Nanos) -> Status {
        let hashed = self.hasher.hash(limit.id(), value);
        let (current, probe) = match self.shards.get(hashed.shard) {
            Some(slot) => {
                let shard = slot.0.lock();
                let current = shard.current(hashed, limit, value, now);
                (current, shard.probe(hashed, limit, value, now, 0).err())
            }
            None => (0, None),
        };
        let current = u32::try_from(current).unwrap_or(u32::MAX);
        Status {
            current,
            remaining: limit.rule().capacity().saturating_sub(current),
            retry_after: probe.map_or(Nanos::ZERO, |denial| denial.retry_after),
        }
    }

    /// Forgets the requests of a value under a limit; whether there was a window.
    pub fn reset(&self, limit: &Limit, value: &[u8]) -> bool {
        let hashed = self.hasher.hash(limit.id(), value);
        self.shards.get(hashed.shard).is_some_and(|slot| {
            slot.0
                .lock()
                .reset(hashed, limit, value, &self.hasher, &self.pool)
        })
    }

    /// Forgets all requests; returns how many windows there were. Takes some 50 ns for each, but no check
    /// waits for it.
    pub fn clear(&self) -> usize {
        self.shards
            .iter()
            .map(|slot| {
                let taken = slot.0.lock().take(&self.pool);
                taken.bury(&self.pool)
            })
            .sum()
    }

    /// Reclaims windows in which nothing counts any more and the memory of expired requests, going on where
    /// the last call stopped. Looks at no more than `budget` windows, where 8,192 expired requests of one
    /// window are worth a window; some 50 ns each. The result says whether there is more to do.
    pub fn sweep(&self, now: Nanos, budget: usize) -> Swept {
        let mut at = self.sweeping.lock();
        let (mut left, mut windows) = (budget, 0);
        while let Some(slot) = self.shards.get(*at) {
            if left == 0 {
                return Swept {
                    windows,
                    more: true,
                };
            }
            let slice = left.min(UNDER_ONE_LOCK);
            let (seen, dropped, done) = slot.0.lock().sweep(now, slice, &self.hasher, &self.pool);
            left -= seen;
            windows += dropped;
            *at += usize::from(done);
        }
        *at = 0;
        Swept {
            windows,
            more: false,
        }
    }

    /// What it holds; visits every shard.
    pub fn stats(&self) -> Stats {
        let (mut windows, mut credit) = (0, self.pool.left());
        let mut bytes = size_of::<Self>() + self.shards.len() * size_of::<Slot>();
        for slot in &self.shards {
            let shard = slot.0.lock();
            windows += shard.len();
            credit += shard.idle_credit();
            bytes += shard.bytes();
        }
        Stats {
            windows,
            entries: self.caps.max_entries.saturating_sub(credit),
            overflowed: self.overflowed.load(Relaxed),
            bytes,
        }
    }
}

fn probe_all(
    charges: &[Charge<'_>],
    locked: &Locked<'_>,
    now: Nanos,
) -> Result<SmallVec<[Place; CHARGES]>, (usize, Denial)> {
    let mut places = SmallVec::new();
    let mut worst: Option<(usize, Denial)> = None;
    for (index, charge) in charges.iter().enumerate() {
        let Some((_, shard)) = locked.get(charge.guard) else {
            continue;
        };
        match shard.probe(charge.hashed, charge.limit, charge.value, now, charge.ahead) {
            Ok(place) => places.push(place),
            Err(denial) => {
                let longer = |(_, other): (_, Denial)| denial.retry_after > other.retry_after;
                if worst.is_none_or(longer) {
                    worst = Some((index, denial));
                }
            }
        }
    }
    worst.map_or(Ok(places), Err)
}

fn denied(index: usize, denial: Denial) -> Decision {
    Decision::Denied {
        index,
        retry_after: denial.retry_after,
        current: denial.current,
    }
}
