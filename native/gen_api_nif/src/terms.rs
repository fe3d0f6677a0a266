//! Terms kept beyond a call.

use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::{Env, OwnedEnv, Term};

/// Copies of terms in an environment of their own.
///
/// Reading copies a term into the caller's heap under a lock: the environment is no process
/// and must not be used by two threads at once.
pub struct Terms {
    store: Mutex<(OwnedEnv, Vec<SavedTerm>)>,
}

// A panic between the two steps of `save` leaves a term that nobody knows of.
impl std::panic::RefUnwindSafe for Terms {}

impl Terms {
    /// No terms.
    pub fn new() -> Self {
        Terms {
            store: Mutex::new((OwnedEnv::new(), Vec::new())),
        }
    }

    /// Keeps a copy and returns its number.
    pub fn save(&self, term: Term<'_>) -> u32 {
        let mut store = self.store.lock();
        let saved = store.0.save(term);
        store.1.push(saved);
        u32::try_from(store.1.len() - 1).unwrap_or(u32::MAX)
    }

    /// A copy for the caller.
    pub fn load<'a>(&self, env: Env<'a>, id: u32) -> Option<Term<'a>> {
        let store = self.store.lock();
        let saved = store.1.get(id as usize)?;
        Some(store.0.run(|own| saved.load(own).in_env(env)))
    }
}
