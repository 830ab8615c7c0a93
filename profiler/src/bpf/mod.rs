//! The kernel programs from userspace: load, attach, fill tables, drain.

mod banks;
mod kernel;
mod memlock;
mod probe;
mod tables;

pub use kernel::{Counters, Kernel, KernelThread, LoadOptions, monotonic, process_entry};
pub use probe::{Verified, probe};
pub use tables::{TableError, TableSpan, Tables};
