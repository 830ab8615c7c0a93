//! What a stack means to tokio: rules over frames, by tokio version.
//!
//! ```text
//! frame -> path (one spelling for every mangling) -> markers (what that function is to tokio)
//!       -> rules (which markers, in which order from the leaf, make which state) -> verdict
//! ```
//!
//! [`markers`] and [`rules`] are tables; [`classify`] is the one small engine that reads them.
//! [`place`] is the second judge, tokio's thread-local state, which needs no names; with it
//! [`pool_threads`] tells the blocking pool's threads by where they began. [`learned`] asks all of
//! them.

mod classify;
mod learned;
mod markers;
mod path;
mod place;
mod pool_threads;
mod rules;
mod verdict;

pub use classify::Classifier;
pub use learned::Learned;
pub(crate) use path::normalise;
pub use place::{Agreement, Judge, Place};
pub use pool_threads::{PoolThreads, Seen};
pub use rules::{RULES, Rule};
pub use verdict::{Flavor, Role, RuleName, State, Verdict};
