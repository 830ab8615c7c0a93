//! The words that holdup's kernel programs and its userspace half both speak.
//!
//! Everything here is `no_std`, `#[repr(C)]` and free of padding, so that both sides see the
//! same bytes. [`record`] holds what crosses the ring buffer, [`map`] the keys and values of
//! the maps, [`thread_entry`] how a thread's is given up, [`context`] what tokio's thread-local
//! state says, [`park`] how an unwind is recognised again, [`offsets`] where the kernel keeps what
//! a wait waits for, [`counter`] the indices of the loss counters, [`stack`] how much of a stack is kept.
//!
//! [`arch`] has what is the processor's own: [`row`] the unwind rows, [`walk`] one step up the stack
//! by them, [`call`] what system calls wait for, and where thread-local variables are.
#![no_std]

pub mod arch;
pub mod context;
pub mod counter;
pub mod map;
pub mod offsets;
pub mod park;
pub mod record;
pub mod scheduler_core;
pub mod stack;
pub mod thread_entry;

pub use arch::{call, row, walk};
