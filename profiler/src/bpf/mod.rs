//! The kernel programs from userspace: load, attach, fill tables, drain.

mod banks;
mod kernel;
mod load;
mod mapping_events;
mod memlock;
mod probe;
mod tables;

pub use kernel::{Counters, Kernel, KernelThread, monotonic, process_entry};
pub use load::LoadOptions;
pub use mapping_events::{MappingEvent, MappingEvents};
pub use probe::{Verified, probe};
pub use tables::{MappingTable, TableError, TableSpan, Tables};
