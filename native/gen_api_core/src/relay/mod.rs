//! Groups of users, and to which devices a message to a group goes.
//!
//! A device is whatever the caller makes of it: a `Copy` handle. Devices belong to users, users
//! are members of groups. Nothing is sent here: [`Relay::publish`] says to whom, and [`Relay::deliver`] in which
//! slices.
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
//! | `index` | all groups, and how one is found |
//! | `lifecycle` | groups are created and deleted |
//! | `membership` | users join with their devices, and leave |
//! | `moderate` | what members do to members |
//! | `rules` | who may do what: the permission matrix |
//! | `publish` | to whom a message goes |
//! | `delivery` | sending it, a slice at a time |
//! | `slow_consumers` | recipients that cannot keep up |
//! | `listing` | what there is |
//! | `group` | one group: its members, and how they stand |
//! | `recipients` | the devices of a group, and which of them get messages |
//! | `member` | one user in one group |
//! | `roster` | the members of a group by user |
//! | `chunks` | the list of recipients, looked at while it changes |
//! | `turns` | a group that is held for long, and not all the time |
//! | `users` | users with their groups; ids are kept once |
//! | `devices` | the reverse index by device |
//! | `endings` | devices that have ended, until everybody who has to know does |
//! | `pace` | messages per second |
//! | `share` | groups that several nodes hold: what they tell each other |
//! | `order` | changes on which one node decides for all |
//! | `copy` | what was decided elsewhere is copied |
//! | `presence` | on which nodes members have devices |
//! | `merge` | what two nodes know of a group is united |
//! | `outcome` | results and refusals |
//! | `verify` | that all parts agree, for tests |

mod chunks;
mod copy;
mod delivery;
mod devices;
mod endings;
mod group;
mod index;
mod lifecycle;
mod listing;
mod member;
mod membership;
mod merge;
mod moderate;
mod order;
mod outcome;
mod pace;
mod presence;
mod publish;
mod recipients;
mod roster;
mod rules;
mod share;
mod slow_consumers;
mod turns;
mod users;
mod verify;

pub use chunks::Snapshot;
pub use delivery::{Delivery, Slice};
pub use group::Created;
pub use index::{Bounds, Relay};
pub use member::{Standing, Status};
pub use merge::Merged;
pub use moderate::Change;
pub use outcome::{FanOut, Joined, Left, Page, Refusal, Row, Size};
pub use recipients::{Device, Recipient};
pub use rules::{Action, GroupType};
pub use share::{Origin, Record, Records};
