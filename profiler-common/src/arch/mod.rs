//! What belongs to one processor architecture: how a frame leads to its caller, where a thread's own
//! variables are, and the numbers of system calls. x86-64 is the only one so far: a second one is a
//! folder beside it with the same items, and this the place that chooses.

mod x86_64;

pub use x86_64::{call, row, tls, walk};
