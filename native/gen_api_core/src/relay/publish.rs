//! Who may send, and to whom a message goes.

use super::index::{Outcome, Relay};
use super::member::{MemberFlags, Status};
use super::outcome::{FanOut, Refusal};
use super::rules::Action;
use crate::clock::Nanos;
use std::hash::Hash;

impl<H: Copy + Eq + Hash> Relay<H> {
    /// Checks that the sender may send, counts the message, and says to whom it goes.
    ///
    /// # Errors
    ///
    /// `NotFound`, `NotInGroup`, `Pending`, `Muted`, `TooFast`.
    pub fn publish(&self, id: &str, user: Option<&str>, now: Nanos) -> Outcome<FanOut<H>> {
        self.with_group(id, |_group, state| {
            let user = user.ok_or(Refusal::NotInGroup)?;
            let (_, flags) = self.find_member(state, user).ok_or(Refusal::NotInGroup)?;
            let status = flags.status().ok_or(Refusal::NotInGroup)?;
            let admin = flags.has(MemberFlags::ADMIN);
            if state.kind.allows(Action::Send, status, admin) {
                Ok(())
            } else if status == Status::Muted {
                Err(Refusal::Muted)
            } else {
                Err(Refusal::Pending)
            }
        })?;
        self.message_rate.charge(id, user, now)?;
        self.fan_out(id)
    }

    /// The same for a message of the server itself: whoever it is said to come from.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    pub fn fan_out(&self, id: &str) -> Outcome<FanOut<H>> {
        self.with_group(id, |_group, state| {
            Ok(FanOut {
                recipients: state.recipients(),
                lanes: state.lanes(),
                audience: state.audience,
                remote: state.remote(),
            })
        })
    }
}
