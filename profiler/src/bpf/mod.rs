//! The kernel programs from userspace: load, attach, fill tables, drain.

mod banks;
mod kernel;
mod mapping_events;
mod memlock;
mod probe;
mod tables;

pub use kernel::{Counters, Kernel, KernelThread, LoadOptions, monotonic, process_entry};
pub use mapping_events::{MappingEvent, MappingEvents};
pub use probe::{Verified, probe};
pub use tables::{MappingTable, TableError, TableSpan, Tables};
