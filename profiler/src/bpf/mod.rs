//! The kernel programs from userspace: load, attach, fill tables, drain.

mod banks;
mod load;
mod mapping_events;
mod memlock;
mod probe;
mod programs;
mod tables;

pub use load::LoadOptions;
pub use mapping_events::{MappingEvent, MappingEvents};
pub use probe::{Verified, probe};
pub use programs::{Counters, Programs, ThreadEntry, monotonic, process_entry};
pub use tables::{MappingTable, TableError, TableSpan, Tables};
