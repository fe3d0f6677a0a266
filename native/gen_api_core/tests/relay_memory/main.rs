//! What memberships really cost, by the allocator's account. Alone in its program, because it counts every byte.
#![allow(clippy::unwrap_used)]

use gen_api_core::relay::{Bounds, Created, Device, GroupType, Relay};
use stats_alloc::{Region, StatsAlloc, INSTRUMENTED_SYSTEM};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn device(id: u64) -> Device<'static, u64> {
    Device {
        id,
        to: id,
        lane: b"",
    }
}

/// Bytes per membership, by the allocator and by the relay itself.
fn bytes(groups: u64, members: u64) -> (f64, f64) {
    let bounds = Bounds {
        groups: usize::MAX,
        members: usize::MAX,
        ..Bounds::default()
    };
    let relay: Relay<u64> = Relay::new(bounds);
    for group in 0..groups {
        let id = format!("group-{group:014}");
        let root = format!("roots-{group:014}");
        relay
            .create(
                &id,
                GroupType::Public,
                &root,
                device(group),
                Created::default(),
            )
            .unwrap();
    }
    let empty = relay.size().bytes;
    let region = Region::new(ALLOCATOR);
    for n in 0..members {
        let id = format!("group-{:014}", n % groups);
        let user = format!("users-{n:014}");
        relay.join(&id, &user, device(groups + n), 0).unwrap();
    }
    let change = region.change();
    let held = change.bytes_allocated as isize - change.bytes_deallocated as isize;
    let own = relay.size().bytes - empty;
    (held as f64 / members as f64, own as f64 / members as f64)
}

#[test]
fn a_membership_takes_no_more_memory_than_promised() {
    println!("groups, members: bytes per membership, as reported");
    let mut worst: f64 = 0.0;
    for (groups, members) in [
        (1, 200_000),
        (1, 230_000),
        (1, 100_000),
        (1_000, 300_000),
        (20_000, 200_000),
    ] {
        let (held, own) = bytes(groups, members);
        println!("{groups} {members}: {held:.1} {own:.1}");
        worst = worst.max(held);
        assert!((held - own).abs() <= held * 0.15);
    }
    assert!(worst <= 200.0);
}
