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
    pub(crate) use arc_swap::{ArcSwap, ArcSwapOption, Guard};
    pub(crate) use parking_lot::{Mutex, MutexGuard, RwLock};
    pub(crate) use std::sync::atomic;
}

#[cfg(loom)]
mod modelled;
