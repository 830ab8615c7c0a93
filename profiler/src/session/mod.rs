//! A live recording: what the kernel side tells becomes a [`crate::model::Recording`].
//!
//! [`Session`] ties the rooms together: [`modules`] keeps the files behind the target's code and
//! the kernel side's tables of them, [`watched`] follows the life of each process, [`maps`] remembers
//! what was mapped when, [`gather`] collects events, [`early`] gives a stack to the threads that
//! waited before we came, [`pending`] to those that waited in code not known yet, [`finish`] closes
//! the books.

mod early;
mod finish;
mod gather;
mod live;
mod maps;
mod modules;
mod pending;
mod split;
mod watched;

pub use live::{Options, Session, TICK};
