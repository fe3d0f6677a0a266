//! Devices that have ended, on their way out of the index.
//!
//! Whoever notices the end of a device has no time for its memberships, of which it may have
//! thousands. So the end is noted, somebody with time takes the device out, and what follows
//! from that is kept until it has been dealt with: nothing is lost with whoever deals with it.

use super::index::Relay;
use super::outcome::Left;
use crate::sync::Mutex;
use std::collections::VecDeque;
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct Endings<H> {
    ended: Mutex<VecDeque<H>>,
    /// Held while devices are taken out: a second one who asks waits for what the first finds.
    departures: Mutex<VecDeque<Left>>,
}

impl<H> Default for Endings<H> {
    fn default() -> Self {
        Self {
            ended: Mutex::new(VecDeque::new()),
            departures: Mutex::new(VecDeque::new()),
        }
    }
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// A device has ended. Whether it is the first one of which that is to be told: until
    /// [`Relay::departures`] has returned nothing, further ones are found by asking again.
    pub fn ended(&self, device: H) -> bool {
        let mut ended = self.endings.ended.lock();
        ended.push_back(device);
        ended.len() == 1
    }

    /// Takes out devices that have ended until some `enough` users have left with their last one,
    /// and returns those. Returns them again until [`Relay::dealt_with`] was called for each.
    /// Linear in the memberships of these devices.
    pub fn departures(&self, enough: usize, now_ms: u64) -> Vec<Left> {
        let mut departures = self.endings.departures.lock();
        if departures.is_empty() {
            // Not locked any more when the device is taken out.
            let next = || self.endings.ended.lock().pop_front();
            while let Some(device) = next() {
                departures.extend(
                    self.end(device, now_ms)
                        .into_iter()
                        .filter(|left| left.last),
                );
                if departures.len() >= enough {
                    break;
                }
            }
        }
        departures.iter().cloned().collect()
    }

    /// The first of the departures needs to be told no more.
    pub fn dealt_with(&self) {
        self.endings.departures.lock().pop_front();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::relay::{Bounds, Created, Device, GroupType, Left, Relay};

    fn device(id: u64) -> Device<'static, u64> {
        Device {
            id,
            to: id,
            lane: b"",
        }
    }

    fn relay(users: u64) -> Relay<u64> {
        let relay = Relay::new(Bounds::default());
        relay
            .create(
                "room",
                GroupType::Public,
                "root",
                device(0),
                Created::default(),
            )
            .unwrap();
        for n in 1..=users {
            relay
                .join("room", &format!("user-{n}"), device(n), 0)
                .unwrap();
        }
        relay
    }

    fn users(left: &[Left]) -> Vec<&str> {
        left.iter().map(|left| &*left.user).collect()
    }

    #[test]
    fn departures_are_returned_until_they_have_been_dealt_with() {
        let relay = relay(3);
        assert!(relay.ended(1));
        assert!(!relay.ended(2));
        assert_eq!(users(&relay.departures(2, 0)), ["user-1", "user-2"]);
        relay.dealt_with();
        assert!(relay.ended(3));
        assert_eq!(users(&relay.departures(2, 0)), ["user-2"]);
        relay.dealt_with();
        assert_eq!(users(&relay.departures(2, 0)), ["user-3"]);
        relay.dealt_with();
        assert!(relay.departures(2, 0).is_empty());
        assert_eq!(relay.size().members, 1);
    }

    #[test]
    fn a_batch_is_no_larger_than_it_has_to_be() {
        let relay = relay(10);
        for n in 1..=10 {
            relay.ended(n);
        }
        let mut batches = Vec::new();
        loop {
            let batch = relay.departures(4, 0).len();
            if batch == 0 {
                break;
            }
            batches.push(batch);
            (0..batch).for_each(|_| relay.dealt_with());
        }
        assert_eq!(batches, [4, 4, 2]);
    }

    #[test]
    fn a_device_that_nobody_knows_and_a_user_with_another_one_are_no_departures() {
        let relay = relay(1);
        relay.join("room", "user-1", device(2), 0).unwrap();
        relay.ended(99);
        relay.ended(1);
        assert!(relay.departures(10, 0).is_empty());
        assert!(relay.ended(2));
        assert_eq!(users(&relay.departures(10, 0)), ["user-1"]);
    }
}
