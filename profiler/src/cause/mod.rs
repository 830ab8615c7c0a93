//! Why a thread waited: rules over system call, kernel stack and user stack, and what to do
//! instead.
//!
//! ```text
//! frame -> clues (what that function tells of a wait) -> rules (which clues with which system
//!       call make which cause, most specific first) -> finding -> advice
//! ```
//!
//! [`clues`], [`rules`] and [`advice`] are tables; [`judge`] is the one small engine that reads
//! them.

mod advice;
mod clues;
mod judge;
mod kind;
mod rules;
mod sighting;

pub use advice::{ADVICE, Advice, Suggestion};
pub use judge::{Finding, Judge};
pub use kind::Cause;
pub use rules::{RULES, Rule};
pub use sighting::Sighting;
