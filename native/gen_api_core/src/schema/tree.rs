//! Walks over content that no type describes.

use super::problem::{Failure, Problem};
use super::TreeLimits;
use crate::value::{Items, Value, View};

/// How much work a check has done, and how much it may do where it runs.
///
/// A unit is about what one list item costs, some 10 ns.
#[derive(Clone, Copy)]
pub(super) struct Meter {
    limits: TreeLimits,
    nodes: u32,
    units: u64,
}

/// Why a walk stopped.
pub(super) enum Stop<'s, V> {
    /// Something is wrong.
    Failed(Box<Failure<'s, V>>),
    /// The work allowed here is used up.
    OutOfBudget,
}

pub(super) type Walk<'s, V, T = ()> = Result<T, Stop<'s, V>>;

impl<'s, V> From<Problem<'s, V>> for Stop<'s, V> {
    fn from(problem: Problem<'s, V>) -> Self {
        Stop::Failed(Failure::new(problem))
    }
}

impl Meter {
    pub(super) fn new(limits: TreeLimits, units: u64) -> Self {
        Meter {
            limits,
            nodes: 0,
            units,
        }
    }

    /// Counts one value.
    #[inline]
    pub(super) fn node<'s, V>(&mut self) -> Walk<'s, V> {
        self.nodes += 1;
        if self.nodes > self.limits.max_nodes {
            return Err(Problem::TooManyNodes(self.limits.max_nodes).into());
        }
        self.work(1)
    }

    /// Takes back one [`Meter::node`].
    #[inline]
    pub(super) fn uncount(&mut self) {
        self.nodes = self.nodes.saturating_sub(1);
    }

    /// Counts the work of looking at that many bytes once.
    #[inline]
    pub(super) fn bytes<'s, V>(&mut self, bytes: usize) -> Walk<'s, V> {
        self.work(u32::try_from(bytes / 32).unwrap_or(u32::MAX))
    }

    #[inline]
    pub(super) fn work<'s, V>(&mut self, units: u32) -> Walk<'s, V> {
        match self.units.checked_sub(u64::from(units)) {
            Some(left) => {
                self.units = left;
                Ok(())
            }
            None => Err(Stop::OutOfBudget),
        }
    }

    #[inline]
    pub(super) fn level<'s, V>(&self, depth: u32) -> Walk<'s, V> {
        if depth > self.limits.max_depth {
            Err(Problem::TooDeep(self.limits.max_depth).into())
        } else {
            Ok(())
        }
    }

    /// Checks the tree limits alone: they come before any type, so when a type has refused
    /// the arguments this decides which of the two is reported. `value` is at `depth`.
    pub(super) fn measure<'a, 's, V: Value<'a>>(&mut self, value: V, depth: u32) -> Walk<'s, V> {
        self.node()?;
        match value.view() {
            View::List => {
                self.level(depth)?;
                let mut items = value.items();
                for _ in items.by_ref() {
                    self.work(1)?;
                }
                // An improper list is no list but one value that no type takes.
                if items.is_proper() {
                    for item in value.items() {
                        self.measure(item, depth + 1)?;
                    }
                }
                Ok(())
            }
            View::Map => {
                self.level(depth)?;
                self.measure_entries(value, depth + 1)
            }
            _ => Ok(()),
        }
    }

    /// The same for the values of a map; `depth` is theirs.
    pub(super) fn measure_entries<'a, 's, V: Value<'a>>(
        &mut self,
        map: V,
        depth: u32,
    ) -> Walk<'s, V> {
        // By reference, for the stack.
        let mut entries = map.entries();
        for (_key, value) in entries.by_ref() {
            self.measure(value, depth)?;
        }
        Ok(())
    }
}
