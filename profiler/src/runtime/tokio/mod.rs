//! What a stack means to tokio: rules over frames, by tokio version.
//!
//! ```text
//! frame -> path (one spelling for every mangling) -> markers (what that function is to tokio)
//!       -> rules (which markers, in which order from the leaf, make which state) -> verdict
//! ```
//!
//! [`markers`] and [`rules`] are tables; [`classify`] is the one small engine that reads them.
//! [`tls_state`] is the second classifier, tokio's thread-local state, which needs no names; with it
//! [`pool_state`] reads how many closures wait in line for the pool,
//! [`callbacks`] are code that a worker calls outside every poll,
//! [`pool_threads`] tells the blocking pool's threads by where they began. [`program_model`] asks all of
//! them.

mod callbacks;
mod classify;
mod contexts;
mod image;
mod markers;
mod pool_state;
mod pool_threads;
mod program_model;
mod rules;
mod thread_names;
mod tls_state;

pub use callbacks::{by_call, is_callback_rule, is_in_callback};
pub use classify::{Classifier, tells_the_role};
pub use contexts::{ContextsOfProcess, LoadedTokio, MissingContext};
pub use image::{ContextAt, Contexts, NoContext, TokioImage, TokioSigns, Variables, is_understood};
pub use pool_state::{FullPool, closures_in_line};
pub use pool_threads::{Observation, PoolThreads, says_foreign};
pub use program_model::{News, ProgramModel};
pub use rules::{RULES, Rule};
pub use thread_names::is_of_a_worker;
pub use tls_state::{Agreement, Certainty, ClassifiedBy, RuntimeHandle, ThreadContext, TlsState};
