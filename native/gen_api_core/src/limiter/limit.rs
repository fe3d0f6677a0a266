use std::sync::Arc;

use super::rule::{Kind, Rule};
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{AHashMap, Mutex};

/// Names a limit for as long as its limiter lives; never given twice.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitId(pub u64);

/// A limit, compiled: all that a check needs, without a look-up. Cheap to clone.
///
/// Limits of one limiter share their windows if they have the same name and length of window.
#[derive(Clone, Debug)]
pub struct Limit {
    id: LimitId,
    rule: Rule,
    family: Arc<Family>,
}

impl Limit {
    /// The id, equal for limits that share their windows.
    #[must_use]
    pub fn id(&self) -> LimitId {
        self.id
    }

    /// What it promises.
    #[must_use]
    pub fn rule(&self) -> Rule {
        self.rule
    }

    pub(super) fn family(&self) -> &Arc<Family> {
        &self.family
    }
}

/// What all windows of a limit have in common.
#[derive(Debug)]
pub(super) struct Family {
    id: LimitId,
    kind: Kind,
    windows: AtomicUsize,
    forgotten: AtomicBool,
}

impl Family {
    pub(super) fn id(&self) -> LimitId {
        self.id
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten.load(Relaxed)
    }

    /// Counts one more window unless there are `max` of them.
    pub(super) fn join(&self, max: usize) -> bool {
        let more = |windows| (windows < max).then_some(windows + 1);
        self.windows.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    pub(super) fn leave(&self) {
        self.windows.fetch_sub(1, Relaxed);
    }
}

type Families = AHashMap<(Box<[u8]>, Kind), Arc<Family>>;

/// Which limits there are, by name and kind.
#[derive(Debug, Default)]
pub(super) struct LimitRegistry {
    families: Mutex<Families>,
    next: AtomicU64,
}

impl LimitRegistry {
    pub(super) fn limit(&self, name: &[u8], rule: Rule) -> Limit {
        let kind = rule.kind();
        let mut families = self.families.lock();
        let family = families.entry((name.into(), kind)).or_insert_with(|| {
            Arc::new(Family {
                id: LimitId(self.next.fetch_add(1, Relaxed)),
                kind,
                windows: AtomicUsize::new(0),
                forgotten: AtomicBool::new(false),
            })
        });
        Limit {
            id: family.id,
            rule,
            family: Arc::clone(family),
        }
    }

    pub(super) fn forget(&self, id: LimitId) -> bool {
        let mut families = self.families.lock();
        let before = families.len();
        families.retain(|_, family| {
            let kept = family.id != id;
            family.forgotten.fetch_or(!kept, Relaxed);
            kept
        });
        families.len() < before
    }
}
