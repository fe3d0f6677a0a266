//! Messages are sent in slices of bounded time, to each recipient once, and not to slow ones.

use gen_api_core::clock::Nanos;
use gen_api_core::relay::{Bounds, Created, Delivery, Device, GroupType, Relay, Slice};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;

/// A relay with a public group of so many devices; the clock stands still but for what sending takes.
struct World {
    relay: Relay<u64>,
    clock: Cell<u64>,
    sent: RefCell<Vec<u64>>,
}

impl World {
    fn new(devices: u64) -> Self {
        let relay = Relay::new(Bounds::default());
        let device = |id| Device {
            id,
            to: id,
            lane: b"",
        };
        let created = Created::default();
        relay
            .create("room", GroupType::Public, "user-0", device(0), created)
            .unwrap();
        for id in 1..devices {
            let user = format!("user-{id}");
            relay.join("room", &user, device(id), 0).unwrap();
        }
        World {
            relay,
            clock: Cell::new(0),
            sent: RefCell::default(),
        }
    }

    fn delivery(&self) -> Delivery<u64> {
        Delivery::new(self.relay.fan_out("room").unwrap())
    }

    /// One slice, where sending takes `each` nanoseconds.
    fn slice(&self, delivery: &Delivery<u64>, each: u64) -> Slice<u64> {
        let now = || Nanos(self.clock.get());
        self.relay.deliver(delivery, now, |to, lane| {
            assert_eq!(lane, 0);
            self.clock.set(self.clock.get() + each);
            self.sent.borrow_mut().push(to);
        })
    }

    /// All slices: how long the longest took, and what was dropped and looked at in all.
    fn deliver(&self, each: u64) -> (u64, usize, Vec<u64>) {
        let delivery = self.delivery();
        let (mut longest, mut dropped, mut sample) = (0, 0, Vec::new());
        loop {
            let before = self.clock.get();
            let slice = self.slice(&delivery, each);
            longest = longest.max(self.clock.get() - before);
            dropped += slice.dropped;
            sample.extend(slice.sample);
            if !slice.more {
                return (longest, dropped, sample);
            }
        }
    }

    fn sent(&self) -> Vec<u64> {
        let mut sent = self.sent.take();
        sent.sort_unstable();
        sent
    }
}

#[test]
fn every_recipient_gets_a_message_once_however_many_slices_it_takes() {
    for (devices, each) in [(1, 1), (100, 10), (3_000, 200), (3_000, 50_000)] {
        let world = World::new(devices);
        let (_, dropped, _) = world.deliver(each);
        assert_eq!(dropped, 0);
        assert_eq!(world.sent(), (0..devices).collect::<Vec<_>>());
    }
}

#[test]
fn a_slice_takes_400_us_and_at_most_as_many_more_as_64_small_messages_or_one_large_one_take() {
    for (each, most) in [
        (200, 400_000 + 64 * 200),
        (3_000, 400_000 + 3_000),
        (90_000, 400_000 + 90_000),
        (5_000_000, 5_000_000),
    ] {
        let (longest, ..) = World::new(3_000).deliver(each);
        assert!(longest <= most, "{each}: {longest}");
    }
}

#[test]
fn a_delivery_that_is_over_holds_nobody() {
    let world = World::new(10);
    let delivery = world.delivery();
    let nothing = Slice {
        more: false,
        dropped: 0,
        sample: vec![],
    };
    world.slice(&delivery, 1);
    assert_eq!(world.sent().len(), 10);
    assert_eq!(world.slice(&delivery, 1), nothing);
    assert_eq!(world.sent(), []);
}

#[test]
fn slow_recipients_get_nothing_and_are_counted() {
    let world = World::new(1_000);
    world
        .relay
        .set_slow([3, 500, 999, 5_000].into_iter().collect());
    let (_, dropped, _) = world.deliver(1_000);
    assert_eq!(dropped, 3);
    let sent = world.sent();
    assert_eq!(sent.len(), 997);
    assert!([3, 500, 999].iter().all(|slow| !sent.contains(slow)));
    world.relay.set_slow(std::iter::empty().collect());
    assert_eq!(world.deliver(1_000).1, 0);
}

#[test]
fn one_recipient_of_256_is_looked_at_and_each_of_them_some_time() {
    let world = World::new(600);
    let mut looked_at = HashSet::new();
    for _ in 0..4_000 {
        let (_, _, sample) = world.deliver(1);
        assert!(sample.len() <= 3, "{sample:?}");
        looked_at.extend(sample);
        world.clock.set(world.clock.get() + 10_000_000);
    }
    assert_eq!(looked_at.len(), 600);
}

#[test]
fn after_a_look_there_is_none_for_half_a_millisecond_for_each_that_was_looked_at() {
    let world = World::new(600);
    let (_, _, sample) = world.deliver(0);
    let pause = 500_000 * sample.len() as u64;
    assert!(sample.len() >= 2);
    world.clock.set(pause - 1);
    assert_eq!(world.deliver(0).2, []);
    world.clock.set(pause);
    assert_ne!(world.deliver(0).2, []);
}
