//! What threads meet at: atomics, locks and the pointer to what is current.
//!
//! The core takes them from here, and so do the hash maps whose order of walking decides in which order threads
//! meet. In a normal build these are plain re-exports. Under `cfg(loom)` they are loom's, so that the models in
//! `tests/loom` run this crate's own code in every order that threads and the memory model allow. `Arc` is the
//! standard one in both: its count takes part in no protocol but under a lock.

#[cfg(not(loom))]
pub(crate) use self::real::*;

#[cfg(loom)]
pub(crate) use self::modelled::*;

#[cfg(not(loom))]
mod real {
    pub(crate) use ahash::{AHashMap, RandomState};
    pub(crate) type DashMap<K, V> = dashmap::DashMap<K, V, RandomState>;
    pub(crate) use arc_swap::{ArcSwap, ArcSwapOption, Guard};
    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
    pub(crate) use std::sync::atomic;

    /// Every value of a map, at some moment each.
    pub(crate) fn values<K: Eq + std::hash::Hash, V: Clone>(map: &DashMap<K, V>) -> Vec<V> {
        map.iter().map(|entry| entry.value().clone()).collect()
    }

    /// Unlocks for whoever waits, who would otherwise come too late for somebody who locks again
    /// at once.
    pub(crate) fn unlock_fair<T>(guard: MutexGuard<'_, T>) {
        MutexGuard::unlock_fair(guard);
    }
}

#[cfg(loom)]
mod modelled;
