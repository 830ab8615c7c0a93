//! A live recording: what the kernel side reports becomes [`Interval`](crate::recording::Interval)s
//! over [`Tables`](crate::recording::Tables).
//!
//! [`Collector`] ties the files together.
//!
//! - The targets: [`targets`] has them and follows what they map, fork and execute. [`processes`]
//!   lists them, [`traced_process`] follows the life of each,
//!   [`modules`] keeps the files behind their code and the kernel side's tables of them,
//!   [`address_map`] says which of it is where, [`maps`] remembers what was mapped when,
//!   [`panic_probes`] finds where panics begin.
//! - Stacks: [`stacks`] has them from their arrival to their name. [`frames`] names addresses,
//!   [`made_code`] those of code made at run time, [`tail_calls`] finds functions that left the stack,
//!   [`stack_table`] and [`program`] keep the stacks and what they were classified to be,
//!   [`initial_waits`] gives one to the threads that waited before we came, [`pending`] to those
//!   that waited in code not known yet, and [`shadow`] walks some a second time.
//! - What is waited for: [`objects`], with [`object_names`] and [`object_shares`]. [`numbers`] says
//!   when both sides may forget the number of a stack or an object.
//! - An interval: [`interval_buffer`] has what came in of it ([`sums`], [`wait_buffer`],
//!   [`wakers`], [`samples`], [`calls`]), [`polls`] puts the waits and samples of one poll together,
//!   [`ledger`] where the time of each thread went, and
//!   [`next_interval`] what came in of the next one already. [`interval_clock`] says when it began,
//!   [`thread_names`] has the names of its threads.
//! - [`open_waits`], [`futex`], [`lock_holders`], [`python_lock`], [`file_locks`], [`fuse`] and
//!   [`path_argument`] say what threads wait for at the end and who holds it, [`lost`] what is missing.

mod address_map;
mod births;
mod bounds;
mod calls;
mod collector;
mod file_locks;
mod frames;
mod fuse;
mod futex;
mod initial_waits;
mod interval_buffer;
mod interval_clock;
mod joining;
mod ledger;
mod lock_holders;
mod lost;
mod made_code;
mod maps;
mod modules;
mod next_interval;
mod numbers;
mod object_names;
mod object_shares;
mod objects;
mod open_waits;
mod panic_probes;
mod path_argument;
mod pending;
mod polls;
mod processes;
mod program;
mod python_lock;
mod samples;
mod shadow;
mod stack_table;
mod stacks;
mod sums;
mod tail_calls;
mod targets;
mod thread_names;
mod traced_process;
mod wait_buffer;
mod wakers;

pub use collector::{Collector, INTERVAL, Look, Options, Seen};
