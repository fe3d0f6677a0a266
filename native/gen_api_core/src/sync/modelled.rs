//! What loom 0.7.2 does not see by itself, it is shown by a *gate*: an atomic of no meaning that threads add to
//! without any order, so that loom tries both orders of two such adds. A gate only adds orders.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock, PoisonError};

use atomic::{AtomicUsize, Ordering};

/// As the standard ones. Of the accesses to an atomic, loom remembers the last: where a thread loads and then
/// stores, it forgets that another one has loaded before, and never tries that load after the store. So loads
/// pass a gate.
pub(crate) mod atomic {
    use std::ops::Deref;

    pub(crate) use loom::sync::atomic::Ordering;

    #[derive(Debug, Default)]
    pub(crate) struct Gate(loom::sync::atomic::AtomicUsize);

    impl Gate {
        pub(crate) fn pass(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    macro_rules! gated {
        ($($name:ident: $value:ty),*) => { $(
            #[derive(Debug, Default)]
            pub(crate) struct $name {
                atomic: loom::sync::atomic::$name,
                gate: Gate,
            }

            // Not every kind is used in every way.
            #[allow(dead_code)]
            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self { atomic: loom::sync::atomic::$name::new(value), gate: Gate::default() }
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    self.gate.pass();
                    self.atomic.load(order)
                }

                pub(crate) fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    update: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    self.gate.pass();
                    self.atomic.fetch_update(set, fetch, update)
                }
            }

            /// All that changes it without looking first.
            impl Deref for $name {
                type Target = loom::sync::atomic::$name;

                fn deref(&self) -> &Self::Target {
                    &self.atomic
                }
            }
        )* };
    }

    gated!(AtomicBool: bool, AtomicU8: u8, AtomicU32: u32, AtomicU64: u64, AtomicI64: i64, AtomicUsize: usize);
}

/// As `parking_lot`'s: without poisoning. To loom a release is no event, so it never tries `try_lock` right before
/// one: both pass a gate.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T> {
    mutex: loom::sync::Mutex<T>,
    gate: atomic::Gate,
}

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T> {
    guard: loom::sync::MutexGuard<'a, T>,
    gate: &'a atomic::Gate,
}

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            mutex: loom::sync::Mutex::new(value),
            gate: atomic::Gate::default(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            guard: self.mutex.lock().unwrap_or_else(PoisonError::into_inner),
            gate: &self.gate,
        }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.gate.pass();
        let guard = self.mutex.try_lock().ok()?;
        Some(MutexGuard {
            guard,
            gate: &self.gate,
        })
    }
}

pub(crate) fn unlock_fair<T>(guard: MutexGuard<'_, T>) {
    drop(guard);
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // After a failed assertion loom runs no more threads.
        if !std::thread::panicking() {
            self.gate.pass();
        }
    }
}

/// As `parking_lot`'s: without poisoning. Of a lock, too, loom remembers the last access: reads pass a gate, as loads
/// do.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T> {
    lock: loom::sync::RwLock<T>,
    gate: atomic::Gate,
}

impl<T> RwLock<T> {
    pub(crate) fn read(&self) -> loom::sync::RwLockReadGuard<'_, T> {
        self.gate.pass();
        self.lock.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> loom::sync::RwLockWriteGuard<'_, T> {
        self.lock.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As `arc_swap`'s, with no more order between threads than it promises: a load sees what a swap published, and
/// not always the latest. A lock around an `Arc` would order more and hide mistakes. Every value is kept.
#[derive(Debug)]
pub(crate) struct ArcSwapAny<A> {
    current: AtomicUsize,
    first: Version<A>,
}

pub(crate) type ArcSwap<T> = ArcSwapAny<Arc<T>>;
pub(crate) type ArcSwapOption<T> = ArcSwapAny<Option<Arc<T>>>;

#[derive(Debug)]
struct Version<A> {
    value: A,
    next: OnceLock<Box<Version<A>>>,
}

/// What was current at a load.
#[derive(Debug)]
pub struct Guard<A>(A);

impl<A> Guard<A> {
    pub(crate) fn from_inner(value: A) -> Self {
        Self(value)
    }
}

impl<A> Deref for Guard<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.0
    }
}

impl<T: Default> Default for ArcSwap<T> {
    fn default() -> Self {
        Self::from_pointee(T::default())
    }
}

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self::new(Arc::new(value))
    }
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn empty() -> Self {
        Self::new(None)
    }
}

impl<A: Clone> ArcSwapAny<A> {
    pub(crate) fn new(value: A) -> Self {
        Self {
            current: AtomicUsize::new(0),
            first: Version::new(value),
        }
    }

    pub(crate) fn load(&self) -> Guard<A> {
        Guard(self.load_full())
    }

    pub(crate) fn load_full(&self) -> A {
        self.version(self.current.load(Ordering::Acquire))
    }

    pub(crate) fn store(&self, value: A) {
        self.swap(value);
    }

    pub(crate) fn swap(&self, value: A) -> A {
        let mut index = 1;
        let mut last = &self.first;
        while let Some(next) = last.next.get() {
            last = next;
            index += 1;
        }
        // No other thread runs between the search and this: only loom's own objects let one run.
        let _ = last.next.set(Box::new(Version::new(value)));
        self.version(self.current.swap(index, Ordering::AcqRel))
    }

    fn version(&self, index: usize) -> A {
        let mut version = &self.first;
        for _ in 0..index {
            version = version.next.get().map_or(version, |next| next);
        }
        version.value.clone()
    }
}

impl<A> Version<A> {
    fn new(value: A) -> Self {
        Self {
            value,
            next: OnceLock::new(),
        }
    }
}

/// With keys that never change, on no machine: loom runs a model again and again and relies on it to do the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct RandomState(BuildHasherDefault<DefaultHasher>);

pub(crate) type AHashMap<K, V> = HashMap<K, V, RandomState>;

impl RandomState {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn hash_one<T: Hash>(&self, value: T) -> u64 {
        BuildHasher::hash_one(&self.0, value)
    }
}

impl BuildHasher for RandomState {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        self.0.build_hasher()
    }
}

/// dashmap's, behind one lock: two keys of a shard do meet at one.
#[derive(Debug)]
pub(crate) struct DashMap<K, V>(Mutex<AHashMap<K, V>>);

impl<K: Eq + Hash, V> DashMap<K, V> {
    pub(crate) fn with_hasher_and_shard_amount(_hasher: RandomState, _shards: usize) -> Self {
        Self(Mutex::new(AHashMap::default()))
    }

    pub(crate) fn insert(&self, key: K, value: V) -> Option<V> {
        self.0.lock().insert(key, value)
    }

    pub(crate) fn remove(&self, key: &K) -> Option<(K, V)> {
        self.0.lock().remove_entry(key)
    }
}

pub(crate) fn values<K: Eq + Hash, V: Clone>(map: &DashMap<K, V>) -> Vec<V> {
    map.0.lock().values().cloned().collect()
}
