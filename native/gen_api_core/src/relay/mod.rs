//! Groups of users, and to which devices a message to a group goes.
//!
//! A device is whatever the caller makes of it: a `Copy` handle. Devices belong to users, users
//! are members of groups. Nothing is sent here: [`Relay::publish`] says to whom.
//!
//! ```
//! use gen_api_core::clock::Nanos;
//! use gen_api_core::relay::{Bounds, Created, Device, GroupType, Relay, Status};
//!
//! let device = |id| Device { id, to: id, lane: b"" };
//! let relay: Relay<u64> = Relay::new(Bounds::default());
//! relay.create("lobby", GroupType::Public, "root", device(1), Created::default()).unwrap();
//! assert_eq!(relay.join("lobby", "ann", device(2), 0).unwrap().status, Status::Active);
//!
//! let message = relay.publish("lobby", Some("ann"), Nanos::ZERO).unwrap();
//! let to: Vec<u64> = message.recipients.slice(0, 10).map(|recipient| recipient.to).collect();
//! assert_eq!(to, [1, 2]);
//! assert_eq!(relay.end(2, 0).len(), 1);
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `index` | all groups, and what can be done to them |
//! | `moderate` | what members do to members |
//! | `rules` | who may do what: the permission matrix |
//! | `group` | one group: members, and the list of recipients |
//! | `member` | one user in one group |
//! | `roster` | the members of a group by user |
//! | `chunks` | the list of recipients, looked at while it changes |
//! | `users` | users with their groups; ids are kept once |
//! | `devices` | the reverse index by device |
//! | `endings` | devices that have ended, until everybody who has to know does |
//! | `pace` | messages per second |
//! | `share` | groups that several nodes hold |
//! | `outcome` | results and refusals |

mod chunks;
mod devices;
mod endings;
mod group;
mod index;
mod member;
mod moderate;
mod outcome;
mod pace;
mod roster;
mod rules;
mod share;
mod users;

pub use chunks::Snapshot;
pub use group::{Created, Device, Recipient};
pub use index::{Bounds, Relay};
pub use member::{Standing, Status};
pub use moderate::Change;
pub use outcome::{FanOut, Joined, Left, Page, Refusal, Row, Size};
pub use rules::{Action, GroupType};
pub use share::{Origin, Record, Records};
