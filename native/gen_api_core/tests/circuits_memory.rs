//! What circuits cost where every node is well. A binary of its own: it counts allocations.

#![allow(clippy::unwrap_used)]

use gen_api_core::breaker::{Caller, Outcome, Settings, Transition};
use gen_api_core::clock::Nanos;
use gen_api_core::nodes::{Entry, Selector, StickyLimits};
use stats_alloc::{Region, StatsAlloc, INSTRUMENTED_SYSTEM};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What the steps allocate every time: the thread that waits for the test allocates now and then.
fn allocations(steps: impl Fn()) -> usize {
    let once = || {
        let region = Region::new(ALLOCATOR);
        (0..100).for_each(|_| steps());
        region.change().allocations
    };
    (0..20).map(|_| once()).min().unwrap()
}

#[test]
fn calls_allocate_nothing_but_the_circuit_and_where_none_is_open_a_choice_reads_no_clock() {
    let selector = Selector::new(StickyLimits::default());
    let call_stats = selector.call_stats();
    call_stats.configure(Some(Settings::default()), Nanos::ZERO);
    let stats = call_stats.of_function(["books", "find", "1.0.0"]);
    let node = &selector.registry().node("a@h");
    let never = || unreachable!();
    let now = || Nanos::from_secs(1);
    assert!(matches!(stats.circuits().enter(node, never), Entry::Free));
    let _ = stats.leave(node, None, Outcome::Success, Some(Caller(1)), now);
    let calls = allocations(|| {
        assert!(stats.circuits().view(never).allows(Some(node)));
        let Entry::Ticket(ticket) = stats.circuits().enter(node, never) else {
            unreachable!()
        };
        let caller = Some(Caller(1));
        let transition = stats.leave(node, Some(&ticket), Outcome::Success, caller, now);
        assert_eq!(transition, Transition::None);
    });
    assert_eq!(calls, 0);

    // In trouble: still nothing allocated.
    let _ = stats.leave(node, None, Outcome::Failure, Some(Caller(2)), now);
    let calls = allocations(|| {
        assert!(stats.circuits().view(now).allows(Some(node)));
        let Entry::Ticket(ticket) = stats.circuits().enter(node, now) else {
            unreachable!()
        };
        let _ = stats.leave(node, Some(&ticket), Outcome::Success, None, now);
    });
    assert_eq!(calls, 0);
}
