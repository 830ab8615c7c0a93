//! The kernel programs from userspace: load, attach, fill tables, drain.

mod banks;
mod kernel;
mod tables;

pub use kernel::{Counters, Kernel, KernelThread, monotonic, process_entry};
pub use tables::{TableError, TableSpan, Tables};
