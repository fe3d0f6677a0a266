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
//! assert_eq!(relay.remove_device(2, 0).len(), 1);
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `index` | all groups, and how one is found |
//! | `lifecycle` | groups are created and deleted |
//! | `membership` | users join with their devices, and leave |
//! | `moderation` | what members do to members |
//! | `rules` | who may do what: the permission matrix |
//! | `publish` | to whom a message goes |
//! | `delivery` | sending it, a slice at a time |
//! | `slow_consumers` | recipients that cannot keep up |
//! | `listing` | what there is |
//! | `group` | one group: its members, and their flags |
//! | `recipients` | the devices of a group, and which of them get messages |
//! | `member` | one user in one group |
//! | `member_table` | the members of a group by user |
//! | `chunks` | the list of recipients, looked at while it changes |
//! | `yielding_lock` | a group that is held for long, and not all the time |
//! | `users` | users with their groups; ids are kept once |
//! | `device_index` | the reverse index by device |
//! | `pending_exits` | devices that have ended, until everybody who has to know does |
//! | `message_rate` | messages per second |
//! | `record` | groups that several nodes hold: what they tell each other |
//! | `decision` | changes on which one node decides for all |
//! | `replication` | what was decided elsewhere is copied |
//! | `device_locations` | on which nodes members have devices |
//! | `merge` | what two nodes know of a group is united |
//! | `outcome` | results and refusals |
//! | `verify` | that all parts agree, for tests |

mod chunks;
mod decision;
mod delivery;
mod device_index;
mod device_locations;
mod group;
mod index;
mod lifecycle;
mod listing;
mod member;
mod member_table;
mod membership;
mod merge;
mod message_rate;
mod moderation;
mod outcome;
mod pending_exits;
mod publish;
mod recipients;
mod record;
mod replication;
mod rules;
mod slow_consumers;
mod users;
mod verify;
mod yielding_lock;

pub use chunks::Snapshot;
pub use decision::Command;
pub use delivery::{Delivery, Slice};
pub use group::Created;
pub use index::{Bounds, Relay};
pub use member::{MemberFlags, Status};
pub use merge::Merged;
pub use moderation::Moderation;
pub use outcome::{FanOut, Joined, Left, Page, Refusal, Row, Size};
pub use recipients::{Device, Recipient};
pub use record::{Origin, Record};
pub use rules::{Action, GroupType};
