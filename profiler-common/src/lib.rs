//! The words that holdup's kernel programs and its userspace half both speak.
//!
//! Everything here is `no_std`, `#[repr(C)]` and free of padding, so that both sides see the
//! same bytes. [`record`] holds what crosses the ring buffer, [`map`] the keys and values of
//! the maps, [`thread_entry`] how a thread's is given up, [`context`] what tokio's thread-local state says, [`row`] the unwinding rows,
//! [`walk`] a step up the stack by them, [`park`] how a walk is known again, [`call`] what system
//! calls wait for, [`offsets`] where the kernel keeps it, [`counter`] the indices of the loss
//! counters.
#![no_std]

pub mod call;
pub mod context;
pub mod counter;
pub mod map;
pub mod offsets;
pub mod park;
pub mod record;
pub mod row;
pub mod thread_entry;
pub mod walk;
