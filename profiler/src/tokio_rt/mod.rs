//! What a stack means to tokio: rules over frames, by tokio version.

mod verdict;

pub use verdict::{Flavor, Role, RuleName, State, Verdict};
