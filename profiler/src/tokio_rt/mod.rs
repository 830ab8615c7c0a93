//! What a stack means to tokio: rules over frames, by tokio version.
//!
//! ```text
//! frame -> path (one spelling for every mangling) -> markers (what that function is to tokio)
//!       -> rules (which markers, in which order from the leaf, make which state) -> verdict
//! ```
//!
//! [`markers`] and [`rules`] are tables; [`classify`] is the one small engine that reads them.

mod classify;
mod markers;
mod path;
mod place;
mod rules;
mod verdict;

pub use classify::Classifier;
pub(crate) use path::normalise;
pub use place::{Agreement, Judge, Place};
pub use rules::{RULES, Rule};
pub use verdict::{Flavor, Role, RuleName, State, Verdict};
