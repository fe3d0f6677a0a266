use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;

use super::candidates::Candidates;
use super::registry::Registry;
use super::selector::Mode;
use super::weights::Weights;
use crate::sync::{ArcSwap, Guard, Mutex};

/// Most members of a [`CandidateSet`].
pub const MAX_MEMBERS: usize = 1_000;

/// Bits of a node's hash in a [`Place`]. With the index before them they are a small integer of the VM. That any
/// two of 1,000 nodes share them happens once in half a billion such sets.
const HASH_BITS: u32 = 48;

/// Candidates that come and go while functions refer to them. A change becomes visible at once and as a whole;
/// readers never wait.
///
/// Members are in the order of their names, so that all gateways with the same members number them alike,
/// whatever they heard of first.
#[derive(Debug)]
pub struct CandidateSet<T> {
    current: ArcSwap<Members<T>>,
    writer: Mutex<()>,
}

/// Candidates with something that belongs to each, as they are at one moment.
#[derive(Debug)]
pub struct Members<T> {
    candidates: Candidates,
    payloads: Box<[T]>,
    /// Which state of its set this is.
    version: u64,
}

/// Where a node is among the members of a set: by its index, and where that is out of date by its hash. So it is
/// good for later states of the set, and for every other set with that node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Place(u64);

impl Place {
    fn new(index: usize, hash: u64) -> Self {
        Self((index as u64) << HASH_BITS | bits(hash))
    }

    /// The place of that number, which may be any.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// The place as a number, less than 2^58.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

fn bits(hash: u64) -> u64 {
    hash & ((1 << HASH_BITS) - 1)
}

impl<T> Members<T> {
    /// Candidates that stay as they are. The payloads are in their order; there may be none at all.
    #[must_use]
    pub fn listed(candidates: Candidates, payloads: Vec<T>) -> Self {
        Self {
            candidates,
            payloads: payloads.into(),
            version: 0,
        }
    }

    /// The candidates.
    #[inline]
    #[must_use]
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// What belongs to the candidate at `index`.
    #[inline]
    #[must_use]
    pub fn payload(&self, index: usize) -> Option<&T> {
        self.payloads.get(index)
    }

    /// What belongs to each candidate, in their order.
    #[must_use]
    pub fn payloads(&self) -> &[T] {
        &self.payloads
    }

    /// The place of the member at `index`.
    #[inline]
    #[must_use]
    pub fn place(&self, index: usize) -> Option<Place> {
        let hash = self.candidates.hashes().get(index)?;
        Some(Place::new(index, *hash))
    }

    /// The index of the member at that place, which this or another state has given, or another set.
    #[inline]
    #[must_use]
    pub fn index(&self, place: Place) -> Option<usize> {
        let hashes = self.candidates.hashes();
        let hint = (place.0 >> HASH_BITS) as usize;
        let wanted = bits(place.0);
        match hashes.get(hint) {
            Some(&hash) if bits(hash) == wanted => Some(hint),
            _ => hashes.iter().position(|&hash| bits(hash) == wanted),
        }
    }

    /// Memory held, in bytes, without the nodes, which belong to the registry.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.candidates.bytes() + self.payloads.len() * size_of::<T>()
    }
}

impl<T> Default for CandidateSet<T> {
    fn default() -> Self {
        let none = Members::listed(Candidates::default(), Vec::new());
        Self {
            current: ArcSwap::from_pointee(none),
            writer: Mutex::new(()),
        }
    }
}

impl<T> CandidateSet<T> {
    /// The members as they are now. Held no longer than a choice takes.
    #[inline]
    pub fn load(&self) -> Guard<Arc<Members<T>>> {
        self.current.load()
    }

    /// These are the members from now on; whether that changes anything. A repeated name counts once, and of more
    /// than [`MAX_MEMBERS`] the first ones by name do, which are the same on every gateway.
    pub fn put(&self, registry: &Registry, members: impl IntoIterator<Item = (String, T)>) -> bool {
        let mut members: Vec<(String, T)> = members.into_iter().collect();
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        members.dedup_by(|(a, _), (b, _)| a == b);
        members.truncate(MAX_MEMBERS);
        let (names, payloads): (Vec<String>, Vec<T>) = members.into_iter().unzip();
        let _turn = self.writer.lock();
        let before = self.current.load();
        let known = before.candidates.iter().map(|node| node.name());
        if known.eq(names.iter().map(String::as_str)) {
            return false;
        }
        self.current.store(Arc::new(Members {
            candidates: Candidates::new(registry, names.iter().map(String::as_str)),
            payloads: payloads.into(),
            version: before.version + 1,
        }));
        true
    }
}

/// The weights of the members of one set, worked out once for each of its states.
#[derive(Debug)]
pub struct SetWeights {
    by_name: HashMap<String, u32>,
    current: ArcSwap<Prepared>,
}

/// [`Mode::Weighted`] for one state of a set.
#[derive(Debug)]
pub struct Prepared {
    version: u64,
    mode: Mode,
}

impl Prepared {
    /// The mode.
    #[inline]
    #[must_use]
    pub fn mode(&self) -> &Mode {
        &self.mode
    }
}

impl SetWeights {
    /// As in [`Weights::new`]: a member without a weight weighs 1.
    #[must_use]
    pub fn new(by_name: HashMap<String, u32>) -> Self {
        // As of a set that has never had a member.
        let none = Prepared {
            version: 0,
            mode: Mode::Weighted(Weights::default()),
        };
        Self {
            by_name,
            current: ArcSwap::from_pointee(none),
        }
    }

    /// The mode for these members, which have to be of the same set each time.
    #[inline]
    pub fn prepared<T>(&self, members: &Members<T>) -> Guard<Arc<Prepared>> {
        let prepared = self.current.load();
        if prepared.version == members.version {
            prepared
        } else {
            self.prepare(members)
        }
    }

    #[cold]
    fn prepare<T>(&self, members: &Members<T>) -> Guard<Arc<Prepared>> {
        let weight = |name: &str| self.by_name.get(name).copied();
        let prepared = Arc::new(Prepared {
            version: members.version,
            mode: Mode::Weighted(Weights::new(&members.candidates, weight)),
        });
        // A reader that is late may put an earlier state back. The next one works the later one out again.
        self.current.store(Arc::clone(&prepared));
        Guard::from_inner(prepared)
    }

    /// Memory held, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let names: usize = self.by_name.keys().map(String::len).sum();
        let weights = match &self.current.load().mode {
            Mode::Weighted(weights) => weights.bytes(),
            _ => 0,
        };
        names + self.by_name.capacity() * size_of::<(String, u32)>() + weights
    }
}
