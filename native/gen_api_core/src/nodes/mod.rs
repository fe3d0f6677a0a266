//! Node selection: which of a function's nodes gets the next call.
//!
//! ```
//! use gen_api_core::clock::Nanos;
//! use gen_api_core::nodes::{Candidates, Mode, Selector, StickyLimits};
//!
//! let selector = Selector::new(StickyLimits::default());
//! let candidates = Candidates::new(selector.registry(), ["a@h1", "b@h1", "c@h1"]);
//!
//! let pick = selector.pick(&candidates, &Mode::Rendezvous, Some(b"7"), Nanos::ZERO, |_| true);
//! assert_eq!(pick.and_then(|i| candidates.name(i)), Some("c@h1"));
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `hash` | the hash every gateway agrees on |
//! | `node` | one node: its health and its load |
//! | `registry` | every node this gateway knows, one object per name |
//! | `candidates` | the nodes of one function, compiled once |
//! | `candidate_set` | the nodes of a service, which come and go |
//! | `rendezvous` | highest random weight: Thaler and Ravishankar, 1998 |
//! | `cursor` | round robin |
//! | `weights` | random draws in proportion to weights |
//! | `sticky` | which node a value went to last |
//! | `circuits` | the nodes that one function leaves alone for a while |
//! | `durations` | how long the calls of one function take |
//! | `call_stats` | what outlives the compiled form of a function: circuits and retries |
//! | `rng` | a small generator and unbiased bounded draws |
//! | `selector` | one instance of all state, `pick` and `order` |

mod call_stats;
mod candidate_set;
mod candidates;
mod circuits;
mod cursor;
mod durations;
pub mod hash;
mod node;
mod registry;
mod rendezvous;
mod rng;
mod selector;
mod sticky;
mod usable;
mod weights;

pub use call_stats::{CallStats, CallStatsTable, CallerKind, DroppedCircuit};
pub use candidate_set::{CandidateSet, Members, Place, Prepared, SetWeights, MAX_MEMBERS};
pub use candidates::Candidates;
pub use circuits::{Circuit, CircuitView, Circuits, Entry, Ticket, MAX_CIRCUITS};
pub use cursor::{Cursor, Cursors};
pub use durations::Durations;
pub use node::{Flight, Node, NodeEvent, NodeStatus};
pub use registry::Registry;
pub use rng::Rng;
pub use selector::{Mode, Obstacle, Order, Selector, Unavailable};
pub use sticky::{Sticky, StickyLimits};
pub use weights::Weights;
