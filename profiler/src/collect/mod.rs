//! A live recording: what the kernel side tells becomes a [`crate::recording::Recording`].
//!
//! [`Session`] ties the rooms together: [`modules`] keeps the files behind the target's code and
//! the kernel side's tables of them, [`traced_process`] follows the life of each process, [`maps`]
//! remembers what was mapped when, [`gather`] collects events, [`stack_table`] keeps the stacks and
//! what they were classified to be, [`timeline`] the waits one by one,
//! [`samples`] puts samples together to polls, [`calls`] sums up long
//! system calls and panics, [`panic_probes`] finds where panics begin, [`tail_calls`] finds
//! functions that left the stack, [`initial_waits`] gives a stack to the threads that waited before we
//! came, [`pending`] to those that waited in code not known yet, [`ended`] keeps the books of those that are gone, [`shadow`] walks some stacks a second time,
//! [`open_waits`] and [`futex`] say what threads wait for at the end, [`sums`] and [`books`] hold what the
//! kernel side counted, [`finish`] closes them, and
//! [`split`] gives each process its own.

mod books;
mod bounds;
mod calls;
mod ended;
mod finish;
mod frames;
mod futex;
mod gather;
mod initial_waits;
mod live;
mod lost;
mod maps;
mod modules;
mod numbers;
mod object_names;
mod object_shares;
mod objects;
mod open_waits;
mod panic_probes;
mod pending;
mod program;
mod samples;
mod shadow;
mod split;
mod stack_table;
mod sums;
mod tail_calls;
mod timeline;
mod traced_process;

pub use live::{Options, Session, TICK};
