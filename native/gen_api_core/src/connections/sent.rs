//! The bytes that wait for a client.
//!
//! Nobody can ask the VM how many bytes are in the mailbox of a process. But the number of
//! messages there can be asked, and the sizes of those sent last are known here: the bytes that
//! wait are about those of the last so many messages. Messages that others send to the process
//! and do not tell make it more than that, never less.

use std::collections::VecDeque;

/// Frames up to this size are remembered together.
const GRAIN: u64 = 65_536;

/// How many bytes are remembered: several times what any connection may hold.
const REMEMBERED: u64 = 1 << 28;

/// Frames that were sent one after the other.
#[derive(Copy, Clone, Debug)]
struct Run {
    frames: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Sent {
    runs: VecDeque<Run>,
    remembered: u64,
    /// Bytes that may wait: those found at the last look, and those sent since.
    pub(super) waiting: u64,
}

impl Sent {
    pub(super) fn add(&mut self, bytes: u64) {
        self.waiting = self.waiting.saturating_add(bytes);
        self.remembered = self.remembered.saturating_add(bytes);
        match self.runs.back_mut() {
            Some(run) if run.bytes.saturating_add(bytes) <= GRAIN => {
                run.frames += 1;
                run.bytes += bytes;
            }
            _ => self.runs.push_back(Run { frames: 1, bytes }),
        }
        while self.runs.len() > 1 && self.remembered > REMEMBERED {
            let oldest = self.runs.pop_front();
            self.remembered -= oldest.map_or(0, |run| run.bytes);
        }
    }

    /// The bytes of the last so many frames; a share of those that were sent in one run.
    pub(super) fn last(&self, frames: u64) -> u64 {
        let mut left = frames;
        let mut bytes = 0;
        for run in self.runs.iter().rev() {
            if left < run.frames {
                return bytes + (run.bytes * left).div_ceil(run.frames);
            }
            left -= run.frames;
            bytes += run.bytes;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::GRAIN;
    use crate::connections::Connection;
    use proptest::prelude::*;

    #[test]
    fn large_frames_are_counted_exactly_whatever_was_sent_around_them() {
        let connection = Connection::default();
        for _ in 0..1_000 {
            connection.sent(100);
        }
        connection.sent(5_000_000);
        connection.sent(3_000_000);
        assert_eq!(connection.waiting(), 8_100_000);
        assert_eq!(connection.seen(2), 8_000_000);
        assert_eq!(connection.seen(1), 3_000_000);
        assert_eq!(connection.sent(100), 3_000_100);
        assert_eq!(connection.seen(0), 0);
    }

    #[test]
    fn more_messages_than_were_sent_are_all_that_were_sent() {
        let connection = Connection::default();
        connection.sent(10);
        assert_eq!(connection.seen(1_000_000), 10);
    }

    #[test]
    fn a_connection_remembers_no_more_than_a_few_kilobytes_of_sizes() {
        let connection = Connection::default();
        for _ in 0..100_000 {
            connection.sent(GRAIN);
        }
        assert!(connection.sent.lock().runs.len() <= 5_000);
    }

    proptest! {
        #[test]
        fn what_waits_is_off_by_less_than_one_run(
            sizes in prop::collection::vec(0..2 * GRAIN, 1..300),
            waiting in 0_usize..400,
        ) {
            let connection = Connection::default();
            for size in &sizes {
                connection.sent(*size);
            }
            let real: u64 = sizes.iter().rev().take(waiting).sum();
            let told = connection.seen(waiting as u64);
            prop_assert!(told.abs_diff(real) <= GRAIN, "{} for {}", told, real);
        }
    }
}
