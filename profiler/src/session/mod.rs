//! A live recording: what the kernel side tells becomes a [`crate::model::Recording`].
//!
//! [`Session`] ties the rooms together: [`modules`] keeps the files behind the target's code and
//! the kernel side's tables of them, [`watched`] follows the life of each process, [`maps`]
//! remembers what was mapped when, [`gather`] collects events, [`judged`] keeps the stacks and
//! what they were judged to be, [`timeline`] the waits one by one,
//! [`samples`] puts samples together to polls, [`calls`] sums up long
//! system calls and panics, [`panic_probes`] finds where panics begin, [`tail_calls`] finds
//! functions that left the stack, [`early`] gives a stack to the threads that waited before we
//! came, [`pending`] to those that waited in code not known yet, [`ended`] keeps the books of those that are gone, [`shadow`] walks some stacks a second time,
//! [`open`] and [`futex`] say what threads wait for at the end, [`sums`] and [`books`] hold what the
//! kernel side counted, [`finish`] closes them, and
//! [`split`] gives each process its own.

mod books;
mod bounds;
mod calls;
mod early;
mod ended;
mod finish;
mod futex;
mod gather;
mod judged;
mod live;
mod lost;
mod maps;
mod modules;
mod objects;
mod open;
mod panic_probes;
mod pending;
mod samples;
mod shadow;
mod split;
mod sums;
mod tail_calls;
mod timeline;
mod watched;

pub use live::{Options, Session, TICK};
