//! The kernel programs from userspace: load, attach, fill tables, drain.

mod banks;
mod hash_table;
mod mapped;
mod mapping_events;
mod memlock;
mod patience;
mod probe;
mod programs;
mod tables;

pub use mapping_events::{MappingEvent, MappingEvents};
pub use probe::{Verified, probe};
pub use profiler_common::counter::Counter;
pub use profiler_common::map::{MAX_PROCESSES, Process as ProcessEntry};
pub use programs::{Counters, Cut, LoadOptions, Programs, monotonic, process_entry};
pub use tables::{MappingTable, TableError, TableSpan, Tables};
