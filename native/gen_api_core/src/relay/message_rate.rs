//! How many messages a group, and a member of it, may have per second.

use super::outcome::Refusal;
use crate::clock::Nanos;
use crate::limiter::{Caps, Decision, Limit, Limiter, Rule, SlidingWindow, Stats, Swept};
use crate::sync::ArcSwapOption;
use smallvec::SmallVec;

const SECOND: Nanos = Nanos::from_secs(1);
const NANOS_PER_MS: u64 = 1_000_000;

/// Limits in messages per second; none where there is nothing to count.
#[derive(Debug)]
pub(super) struct MessageRate {
    limiter: Limiter,
    group: ArcSwapOption<Limit>,
    member: ArcSwapOption<Limit>,
}

impl MessageRate {
    pub(super) fn new() -> Self {
        let mut caps = Caps::default();
        if cfg!(loom) {
            caps.shards = 1;
        }
        Self {
            limiter: Limiter::new(caps),
            group: ArcSwapOption::empty(),
            member: ArcSwapOption::empty(),
        }
    }

    pub(super) fn set(&self, group: Option<u32>, member: Option<u32>) {
        let limit = |name: &[u8], most: Option<u32>| {
            let rule = SlidingWindow::new(most?, SECOND)?;
            let limit = self.limiter.limit(name, Rule::SlidingWindow(rule));
            Some(std::sync::Arc::new(limit))
        };
        self.group.store(limit(b"group", group));
        self.member.store(limit(b"member", member));
    }

    /// Counts a message of a member, or, without one, of the server itself.
    pub(super) fn charge(
        &self,
        group: &str,
        member: Option<&str>,
        now: Nanos,
    ) -> Result<(), Refusal> {
        let (by_group, by_member) = (self.group.load(), self.member.load());
        if by_group.is_none() && by_member.is_none() {
            return Ok(());
        }
        let mut name: SmallVec<[u8; 64]> = SmallVec::new();
        let mut charges: SmallVec<[(&Limit, &[u8]); 2]> = SmallVec::new();
        if let Some(limit) = by_group.as_deref() {
            charges.push((limit, group.as_bytes()));
        }
        if let (Some(limit), Some(member)) = (by_member.as_deref(), member) {
            // With the length ahead no two pairs read the same.
            name.extend_from_slice(&group.len().to_le_bytes());
            name.extend_from_slice(group.as_bytes());
            name.extend_from_slice(member.as_bytes());
            charges.push((limit, &name));
        }
        match self.limiter.check(&charges, now) {
            Decision::Denied { retry_after, .. } => Err(Refusal::TooFast(
                retry_after.0.div_ceil(NANOS_PER_MS).max(1),
            )),
            // No room to count: a chat that goes on beats one that stops.
            Decision::Admitted | Decision::Overflow => Ok(()),
        }
    }

    pub(super) fn sweep(&self, now: Nanos, budget: usize) -> Swept {
        self.limiter.sweep(now, budget)
    }

    pub(super) fn stats(&self) -> Stats {
        self.limiter.stats()
    }
}
