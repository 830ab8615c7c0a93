//! A live recording: what the kernel side tells becomes a [`crate::model::Recording`].
//!
//! [`Session`] ties the rooms together: [`modules`] keeps the files behind the target's code and
//! the kernel side's tables of them, [`watched`] follows the life of each process, [`maps`]
//! remembers what was mapped when, [`gather`] collects events, [`samples`] puts samples together
//! to polls, [`tail_calls`] finds functions that left the stack, [`early`] gives a stack to the
//! threads that waited before we came, [`pending`] to those that waited in code not known yet,
//! [`ended`] keeps the books of those that are gone, [`shadow`] walks some stacks a second time,
//! [`open`] and [`futex`] say what threads wait for at the end, [`finish`] closes the books, and
//! [`split`] gives each process its own.

mod bounds;
mod early;
mod ended;
mod finish;
mod futex;
mod gather;
mod live;
mod lost;
mod maps;
mod modules;
mod objects;
mod open;
mod pending;
mod samples;
mod shadow;
mod split;
mod tail_calls;
mod watched;

pub use live::{Options, Session, TICK};
