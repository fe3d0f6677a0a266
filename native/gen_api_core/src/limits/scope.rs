//! What a plan knows of the limits: whether there are any.

use super::active_limits::ByFunction;
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

/// Whether requests of one function are limited, by limits of its own or by those of all.
///
/// One flag, not one of each kind: where limits of one kind replace the other, a look at two
/// flags could find each at a moment when it is not set.
#[derive(Debug, Default)]
pub struct Scope(pub(super) AtomicBool);

impl Scope {
    /// Whether a check could do anything.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// The scopes that plans hold, and some that none holds any more.
#[derive(Debug, Default)]
pub(super) struct Scopes {
    by_function: ByFunction<Arc<Scope>>,
    /// How many there are, and how many there may be before those without a plan are dropped:
    /// plans of configs that are not stored come and go under whatever names they have.
    len: usize,
    most: usize,
}

impl Scopes {
    /// Fewer than these are not worth a walk.
    const MIN_SCOPES: usize = 1_024;

    pub(super) fn drop_unused(&mut self) {
        let mut kept = 0;
        for functions in self.by_function.values_mut() {
            functions.retain(|_, scope| Arc::strong_count(scope) > 1);
            kept += functions.len();
        }
        self.by_function
            .retain(|_, functions| !functions.is_empty());
        self.len = kept;
        // Twice as many: each scope pays for a walk once.
        self.most = (2 * kept).max(Self::MIN_SCOPES);
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &str, &Scope)> {
        self.by_function.iter().flat_map(|(service, functions)| {
            let scopes = functions.iter();
            scopes.map(move |(request_type, scope)| (&**service, &**request_type, &**scope))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn of(
        &mut self,
        service: &str,
        request_type: &str,
        new: impl FnOnce() -> Scope,
    ) -> Arc<Scope> {
        if self.len >= self.most {
            self.drop_unused();
        }
        let functions = self.by_function.entry(service.into()).or_default();
        let known = functions.len();
        let scope = functions
            .entry(request_type.into())
            .or_insert_with(|| Arc::new(new()));
        let scope = Arc::clone(scope);
        self.len += functions.len() - known;
        scope
    }
}
