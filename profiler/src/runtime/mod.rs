//! What a runtime does with its threads: the states and roles that every runtime has, and a folder
//! for each runtime that holdup understands.

mod queued;
mod state;
pub mod tokio;

pub use queued::Queued;
pub use state::{Classification, Flavor, Role, RuleName, State, StoppedBy};
