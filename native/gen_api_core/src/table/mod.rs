//! The table of functions: readers see one consistent state and never wait.
//!
//! The whole table is one immutable value behind one pointer. A reader loads the pointer; a
//! writer builds the next value beside it and swaps the pointer, so a batch becomes visible
//! at once. What did not change is shared: the table is cut into [`BUCKETS`] small hash
//! tables, and a write copies only the bucket that it touches, so its cost does not follow
//! the number of functions.

mod bucket;
mod edit;
mod function;
pub mod version;

pub use function::{Function, Lookup, Origin, Version, UNVERSIONED};

use crate::sync::{ArcSwap, Guard, Mutex, RandomState};
use ahash::AHashSet;
use bucket::Bucket;
use edit::Edit;
use std::sync::Arc;

/// How many parts the table is cut into: a power of two, so that a root of 16 KB fits the
/// first-level cache and a bucket of a table of 100,000 functions holds about a hundred.
pub const BUCKETS: usize = 1024;

/// A table of functions with payloads of type `P`, which are cheap to clone.
#[derive(Debug)]
pub struct Table<P> {
    current: ArcSwap<Snapshot<P>>,
    writer: Mutex<()>,
    hasher: RandomState,
}

/// Request type and version: what names a function config within its service.
pub type Key = (Box<str>, Box<str>);

/// One state of the table.
#[derive(Debug)]
pub struct Snapshot<P> {
    buckets: Box<[Bucket<P>]>,
    versions: usize,
    state: u64,
}

/// One function config to store.
#[derive(Debug)]
pub struct Entry<P> {
    /// The service that offers it.
    pub service: Box<str>,
    /// Its name within the service.
    pub request_type: Box<str>,
    /// Its version; [`UNVERSIONED`] when it has none.
    pub version: Box<str>,
    /// How it came here.
    pub origin: Origin,
    /// Whether the config itself says so.
    pub disabled: bool,
    /// What a lookup returns.
    pub payload: P,
}

impl<P> Entry<P> {
    fn into_key(self) -> Key {
        (self.request_type, self.version)
    }
}

/// What replacing the functions of a service did.
#[derive(Debug, PartialEq, Eq)]
pub struct Replaced {
    /// How many function configs were removed.
    pub removed: usize,
    /// The keys of the entries that were left out because the gateway has added its own.
    pub taken: Vec<Key>,
}

/// What a change of the enabled state did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switched {
    /// There is no such function config.
    NotFound,
    /// It was so already.
    Unchanged,
    /// It is now.
    Changed,
}

impl<P: Clone> Default for Table<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Clone> Table<P> {
    /// An empty table.
    pub fn new() -> Self {
        Table {
            current: ArcSwap::from_pointee(Snapshot::empty(0)),
            writer: Mutex::new(()),
            hasher: RandomState::new(),
        }
    }

    /// Looks a function up and hands the result to `then`; this is the request path.
    ///
    /// The state seen stays alive while `then` runs, so it is kept short.
    #[inline]
    pub fn lookup<R>(
        &self,
        service: &[u8],
        request_type: &[u8],
        version: Option<&[u8]>,
        then: impl FnOnce(Lookup<'_, P>) -> R,
    ) -> R {
        let snapshot = self.current.load();
        let function = snapshot.find(self.hash(service, request_type), service, request_type);
        then(function.map_or(Lookup::NotFound, |function| function.resolve(version)))
    }

    /// Hands one function with all its versions to `then`.
    pub fn function<R>(
        &self,
        service: &str,
        request_type: &str,
        then: impl FnOnce(Option<&Function<P>>) -> R,
    ) -> R {
        let (service, request_type) = (service.as_bytes(), request_type.as_bytes());
        let snapshot = self.current.load();
        then(snapshot.find(self.hash(service, request_type), service, request_type))
    }

    /// The state as it is now, for listings.
    pub fn snapshot(&self) -> Guard<Arc<Snapshot<P>>> {
        self.current.load()
    }

    /// Stores entries in one visible step; of several with one key the last counts. Marks of
    /// an operator stay.
    pub fn store(&self, entries: Vec<Entry<P>>) {
        self.write(|edit| edit.put(entries));
    }

    /// Stores entries and, in the same visible step, removes every other function config of
    /// `service` that was pulled, pushed or offered, but for the keys (type and version) in `keep`. What was added on
    /// the gateway stays as it is: an entry with its key is not stored, nor are the others if `strict`. Then, still in
    /// that step, as [`Table::set_ineligible`].
    pub fn replace_service(
        &self,
        service: &str,
        entries: Vec<Entry<P>>,
        keep: Vec<Key>,
        strict: bool,
        ineligible: Vec<Key>,
    ) -> Replaced {
        self.write(|edit| {
            let (taken, entries): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| edit.is_direct(entry));
            let taken: Vec<Key> = taken.into_iter().map(Entry::into_key).collect();
            if strict && !taken.is_empty() {
                return Replaced { removed: 0, taken };
            }
            let stored = entries
                .iter()
                .map(|entry| (entry.request_type.clone(), entry.version.clone()));
            let kept: AHashSet<Key> = stored.chain(keep).collect();
            edit.put(entries);
            let removed = edit.prune(service, |function, version| {
                version.origin() == Origin::Direct || kept.contains(&function.key_of(version))
            });
            edit.set_ineligible(service, &ineligible.into_iter().collect());
            Replaced { removed, taken }
        })
    }

    /// Requests that name no version get these versions of a service's functions only where there is no other, and
    /// all others again as ever, in one visible step; whether that changes anything.
    pub fn set_ineligible(&self, service: &str, keys: Vec<Key>) -> bool {
        self.write(|edit| edit.set_ineligible(service, &keys.into_iter().collect()))
    }

    /// Removes one function config and an operator's mark on it; returns whether it was there.
    pub fn delete(&self, service: &str, request_type: &str, version: &str) -> bool {
        self.write(|edit| {
            edit.knows(service, request_type)
                && edit
                    .function(service, request_type, |function| function.delete(version))
                    .unwrap_or(false)
        })
    }

    /// Enables or disables one function config as an operator does: it stays so when the
    /// config is stored again.
    pub fn switch(
        &self,
        service: &str,
        request_type: &str,
        version: &str,
        enabled: bool,
    ) -> Switched {
        self.mark(service, request_type, version, enabled, false)
    }

    /// The same, also for a config that is not there: it holds when that is stored for the first time.
    pub fn switch_ahead(
        &self,
        service: &str,
        request_type: &str,
        version: &str,
        enabled: bool,
    ) -> Switched {
        self.mark(service, request_type, version, enabled, true)
    }

    fn mark(
        &self,
        service: &str,
        request_type: &str,
        version: &str,
        enabled: bool,
        ahead: bool,
    ) -> Switched {
        self.write(|edit| {
            let mark = ahead && !enabled;
            if !mark && !edit.knows(service, request_type) {
                return Switched::NotFound;
            }
            edit.function(service, request_type, |function| {
                function.switch(version, enabled, ahead)
            })
            .unwrap_or(Switched::NotFound)
        })
    }

    /// Removes everything; returns how many function configs there were.
    pub fn clear(&self) -> usize {
        let _turn = self.writer.lock();
        let next = self.current.load().next_state();
        self.current.swap(Arc::new(Snapshot::empty(next))).len()
    }

    fn write<R>(&self, change: impl FnOnce(&mut Edit<'_, P>) -> R) -> R {
        let _turn = self.writer.lock();
        let old = self.current.load_full();
        let mut edit = Edit::of(&old, &self.hasher);
        let result = change(&mut edit);
        if let Some(next) = edit.into_next(old.next_state()) {
            self.current.store(Arc::new(next));
        }
        result
    }

    #[inline]
    fn hash(&self, service: &[u8], request_type: &[u8]) -> u64 {
        hash(&self.hasher, service, request_type)
    }
}

#[inline]
fn hash(hasher: &RandomState, service: &[u8], request_type: &[u8]) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut state = hasher.build_hasher();
    state.write(service);
    state.write(request_type);
    state.finish()
}

/// The bucket is chosen by the top bits of the hash, the slot within it by the low ones.
#[inline]
fn bucket_of(hash: u64) -> usize {
    (hash >> (u64::BITS - BUCKETS.trailing_zeros())) as usize
}

impl<P> Snapshot<P> {
    fn empty(state: u64) -> Self {
        Snapshot {
            buckets: (0..BUCKETS).map(|_| Bucket::empty()).collect(),
            versions: 0,
            state,
        }
    }

    /// The number of this state: another one than that of every earlier state of the table. What is
    /// derived from a state can be kept under it.
    pub fn state(&self) -> u64 {
        self.state
    }

    fn next_state(&self) -> u64 {
        self.state.wrapping_add(1)
    }

    /// The number of function configs, each version counted.
    pub fn len(&self) -> usize {
        self.versions
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.versions == 0
    }

    /// Every function, in no order.
    pub fn functions(&self) -> impl Iterator<Item = &Function<P>> {
        self.buckets.iter().flat_map(|bucket| bucket.functions())
    }

    #[inline]
    fn find(&self, hash: u64, service: &[u8], request_type: &[u8]) -> Option<&Function<P>> {
        self.buckets
            .get(bucket_of(hash))?
            .find(hash, service, request_type)
    }

    /// A rough count of the bytes held, payloads counted by `payload`.
    pub fn bytes(&self, payload: impl Fn(&P) -> usize) -> usize {
        let buckets: usize = self.buckets.iter().map(|bucket| bucket.bytes()).sum();
        let fixed = std::mem::size_of::<Self>() + buckets;
        self.functions().fold(fixed, |bytes, function| {
            bytes.saturating_add(function.bytes(&payload))
        })
    }
}

#[cfg(test)]
mod tests;
