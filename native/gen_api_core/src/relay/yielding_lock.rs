//! A large group that is changed member by member, and not held all the time.

use super::group::{Group, State};
use crate::sync::{unlock_fair, MutexGuard};

/// Steps without letting go of the group: those who send to it may wait on a scheduler of the VM.
const STEPS: usize = if cfg!(loom) { 8 } else { 256 };

/// The lock of a group; every so many steps whoever waits for it has it in between.
pub(super) struct YieldingLock<'g, H> {
    group: &'g Group<H>,
    state: Option<MutexGuard<'g, State<H>>>,
    left: usize,
}

impl<'g, H> YieldingLock<'g, H> {
    pub(super) fn new(group: &'g Group<H>, state: MutexGuard<'g, State<H>>) -> Self {
        Self {
            group,
            state: Some(state),
            left: STEPS,
        }
    }

    /// The group for one step, none if it has been deleted. Between two steps anything may have
    /// happened to it.
    pub(super) fn step(&mut self) -> Option<&mut State<H>> {
        if self.left == 0 {
            self.left = STEPS;
            if let Some(state) = self.state.take() {
                unlock_fair(state);
            }
        }
        self.left -= 1;
        let state = self.state.get_or_insert_with(|| self.group.state.lock());
        (!state.deleted).then_some(state)
    }
}
