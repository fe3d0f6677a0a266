//! Rate limiting: how many requests of a value a limit lets pass.
//!
//! A sliding window is exact: it never admits more than its limit in any interval as long as the window, for
//! any interleaving of callers, and denies no request that a complete log would admit. Memory follows the
//! requests that count, seven bytes each, never the size of the limit.
//!
//! ```
//! use gen_api_core::clock::Nanos;
//! use gen_api_core::limiter::{Caps, Decision, Limiter, Rule, SlidingWindow};
//!
//! let limiter = Limiter::new(Caps::default());
//! let twice_a_second = SlidingWindow::new(2, Nanos::from_secs(1)).unwrap();
//! let limit = limiter.limit(b"global/user_id", Rule::SlidingWindow(twice_a_second));
//!
//! let check = |millis| limiter.check(&[(&limit, b"ann")], Nanos::from_millis(millis));
//! assert_eq!(check(0), Decision::Admitted);
//! assert_eq!(check(400), Decision::Admitted);
//! let retry_after = Nanos::from_millis(100);
//! assert_eq!(check(900), Decision::Denied { index: 0, retry_after, current: 2 });
//! assert_eq!(check(1_000), Decision::Admitted);
//! ```
//!
//! | file | concept |
//! |---|---|
//! | `limiter` | one instance: limits, sweeps, figures |
//! | `check` | a request against several limits at once |
//! | `limit` | a compiled limit, and which limits share their windows |
//! | `rule` | the kinds of limit; the one place to add another |
//! | `sliding_window` | the algorithm: which requests count at a time |
//! | `log`, `pages`, `stamp` | a queue of times that is small when short and never moved when long |
//! | `shard` | the windows behind one lock |
//! | `sweep` | reclaiming what has expired, some windows at a time |
//! | `key`, `paged_vec`, `hasher` | how a shard stores and finds them |
//! | `pool` | the entries that may still be recorded |

mod check;
mod hasher;
mod key;
mod limit;
#[allow(clippy::module_inception)]
mod limiter;
mod log;
mod paged_vec;
mod pages;
mod pool;
mod rule;
mod shard;
mod sliding_window;
mod stamp;
mod sweep;

pub use check::Decision;
pub use limit::{Limit, LimitId};
pub use limiter::{Caps, Limiter, Stats, Status, Swept};
pub use rule::Rule;
pub use sliding_window::SlidingWindow;
