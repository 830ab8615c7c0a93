//! A live recording: what the kernel side tells becomes a [`crate::model::Recording`].
//!
//! [`Session`] ties the rooms together: [`modules`] keeps the files behind the target's code and
//! the kernel side's tables of them, [`gather`] collects events, [`samples`] puts samples together
//! to polls, [`early`] gives a stack to the
//! threads that waited before we came, [`finish`] closes the books.

mod early;
mod finish;
mod gather;
mod live;
mod modules;
mod samples;
mod tail_calls;

pub use live::{Options, Session, TICK};
