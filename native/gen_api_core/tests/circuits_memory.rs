//! What circuits cost where every node is well. A binary of its own: it counts allocations.

#![allow(clippy::unwrap_used)]

use gen_api_core::breaker::{Outcome, Settings, Transition};
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{Entry, Selector, StickyLimits};
use stats_alloc::{Region, StatsAlloc, INSTRUMENTED_SYSTEM};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_node_that_is_well_has_no_circuit_and_its_calls_read_no_clock_and_allocate_nothing() {
    let selector = Selector::new(StickyLimits::default());
    let histories = selector.histories();
    histories.configure(Some(Settings::default()), Nanos::ZERO);
    let history = histories.history(["books", "find", "1.0.0"]);
    let node = &selector.registry().node("a@h");
    let never = || unreachable!();
    let region = Region::new(ALLOCATOR);
    for _ in 0..1_000 {
        assert!(history.circuits().watch(never).allows(Some(node)));
        assert!(matches!(history.circuits().enter(node, never), Entry::Free));
        let transition = history.leave(node, None, Outcome::Success, never);
        assert_eq!(transition, Transition::None);
    }
    assert_eq!(region.change().allocations, 0);
    assert!(!history.circuits().any());

    // In trouble: a clock, and still nothing allocated.
    let now = || Nanos::from_secs(1);
    let _ = history.leave(node, None, Outcome::Failure, now);
    let region = Region::new(ALLOCATOR);
    for _ in 0..1_000 {
        assert!(history.circuits().watch(now).allows(Some(node)));
        let Entry::Ticket(ticket) = history.circuits().enter(node, now) else {
            unreachable!()
        };
        let _ = history.leave(node, Some(&ticket), Outcome::Success, now);
    }
    assert_eq!(region.change().allocations, 0);
}
