//! Why a thread waited: rules over system call, kernel stack and user stack, and what to do
//! instead.
//!
//! ```text
//! frame -> tags (what that function tells of a wait) -> rules (which tags with which system
//!       call make which cause, most specific first) -> finding -> advice
//! ```
//!
//! [`tags`], [`rules`] and [`advice`] are tables; [`classifier`] is the one small engine that reads
//! them.

mod advice;
mod classifier;
mod kind;
mod rules;
mod tags;
mod wait_context;

pub use advice::{ADVICE, Advice, Suggestion};
pub use classifier::{CauseClassifier, Finding};
pub use kind::Cause;
pub use rules::{RULES, Rule};
pub use wait_context::WaitContext;
