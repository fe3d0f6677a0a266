//! Devices that have ended, on their way out of the index.
//!
//! Whoever notices the end of a device has no time for its memberships, of which it may have
//! thousands. So the end is noted, somebody with time takes the device out, and what follows
//! from that is kept until it is acknowledged: nothing is lost with whoever handles it.

use super::index::Relay;
use super::outcome::Left;
use crate::sync::Mutex;
use std::collections::VecDeque;
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct PendingExits<H> {
    exited: Mutex<VecDeque<H>>,
    /// Held while devices are taken out: a second one who asks waits for what the first finds.
    disconnects: Mutex<VecDeque<Left>>,
}

impl<H> Default for PendingExits<H> {
    fn default() -> Self {
        Self {
            exited: Mutex::new(VecDeque::new()),
            disconnects: Mutex::new(VecDeque::new()),
        }
    }
}

impl<H: Copy + Eq + Hash> Relay<H> {
    /// A device has exited. Whether it is the first one of which that is to be told: until
    /// [`Relay::disconnects`] has returned nothing, further ones are found by asking again.
    pub fn device_exited(&self, device: H) -> bool {
        let mut exited = self.pending_exits.exited.lock();
        exited.push_back(device);
        exited.len() == 1
    }

    /// Takes out devices that have ended until some `enough` users have left with their last one,
    /// and returns those. Returns them again until [`Relay::ack_disconnect`] was called for each.
    /// Linear in the memberships of these devices.
    pub fn disconnects(&self, enough: usize, now_ms: u64) -> Vec<Left> {
        let mut disconnects = self.pending_exits.disconnects.lock();
        if disconnects.is_empty() {
            // Not locked any more when the device is taken out.
            let next = || self.pending_exits.exited.lock().pop_front();
            while let Some(device) = next() {
                disconnects.extend(
                    self.remove_device(device, now_ms)
                        .into_iter()
                        .filter(|left| left.last),
                );
                if disconnects.len() >= enough {
                    break;
                }
            }
        }
        disconnects.iter().cloned().collect()
    }

    /// Acknowledges the first of the disconnects: it is not returned again.
    pub fn ack_disconnect(&self) {
        self.pending_exits.disconnects.lock().pop_front();
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
        assert!(relay.device_exited(1));
        assert!(!relay.device_exited(2));
        assert_eq!(users(&relay.disconnects(2, 0)), ["user-1", "user-2"]);
        relay.ack_disconnect();
        assert!(relay.device_exited(3));
        assert_eq!(users(&relay.disconnects(2, 0)), ["user-2"]);
        relay.ack_disconnect();
        assert_eq!(users(&relay.disconnects(2, 0)), ["user-3"]);
        relay.ack_disconnect();
        assert!(relay.disconnects(2, 0).is_empty());
        assert_eq!(relay.size().members, 1);
    }

    #[test]
    fn a_batch_is_no_larger_than_it_has_to_be() {
        let relay = relay(10);
        for n in 1..=10 {
            relay.device_exited(n);
        }
        let mut batches = Vec::new();
        loop {
            let batch = relay.disconnects(4, 0).len();
            if batch == 0 {
                break;
            }
            batches.push(batch);
            (0..batch).for_each(|_| relay.ack_disconnect());
        }
        assert_eq!(batches, [4, 4, 2]);
    }

    #[test]
    fn a_device_that_nobody_knows_and_a_user_with_another_one_are_no_disconnects() {
        let relay = relay(1);
        relay.join("room", "user-1", device(2), 0).unwrap();
        relay.device_exited(99);
        relay.device_exited(1);
        assert!(relay.disconnects(10, 0).is_empty());
        assert!(relay.device_exited(2));
        assert_eq!(users(&relay.disconnects(10, 0)), ["user-1"]);
    }
}
