//! Terms kept beyond a call.

use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::{Env, OwnedEnv, Term};

/// Copies of terms in an environment of their own.
///
/// Reading copies a term into the caller's heap under a lock: the environment is no process
/// and must not be used by two threads at once.
pub struct Terms {
    // Most schemas keep no term, and an environment takes a kilobyte.
    store: Mutex<(Option<OwnedEnv>, Vec<SavedTerm>)>,
}

// A panic between the two steps of `save` leaves a term that nobody knows of.
impl std::panic::RefUnwindSafe for Terms {}

impl Terms {
    /// No terms.
    pub fn new() -> Self {
        Terms {
            store: Mutex::new((None, Vec::new())),
        }
    }

    /// Keeps a copy and returns its number.
    pub fn save(&self, term: Term<'_>) -> u32 {
        let mut store = self.store.lock();
        let (env, terms) = &mut *store;
        let saved = env.get_or_insert_with(OwnedEnv::new).save(term);
        terms.push(saved);
        u32::try_from(terms.len() - 1).unwrap_or(u32::MAX)
    }

    /// A copy for the caller.
    pub fn load<'a>(&self, env: Env<'a>, id: u32) -> Option<Term<'a>> {
        let store = self.store.lock();
        let saved = store.1.get(id as usize)?;
        Some(store.0.as_ref()?.run(|own| saved.load(own).in_env(env)))
    }
}
