//! The target: a process pinned so that its id cannot come to mean another, with its modules,
//! mappings and threads.

mod cgroup;
mod comm;
pub mod deadline;
mod device;
pub mod ends;
mod errors;
mod exit;
mod find;
mod inode;
mod kernel_file;
mod last_ran;
mod launch;
mod mapping;
mod mappings;
pub(crate) mod memory;
pub mod module;
mod mounts;
mod near;
mod private_copy;
mod proc_dir;
mod procmap;
mod reader;
mod selection;
mod selector;
pub(crate) mod signals;
pub mod sockets;
mod stat;
mod target;
#[doc(hidden)]
pub mod texts;
mod threads;
mod unit;
mod user;

pub use cgroup::{CpuQuota, QuotaUse};
pub use comm::parse_comm;
pub use device::Device;
pub use errors::{Barrier, FindError, LaunchError, TargetError};
pub use exit::status_text;
pub use find::find;
pub use last_ran::{CpuClocks, LastRan};
pub use launch::{Launched, Streams};
pub use mapping::{Mapping, MappingKind};
pub use mappings::{FileStamp, parse_maps};
pub use mounts::{Mount, mounts};
pub use private_copy::{Budget, PrivateCopy};
pub(crate) use proc_dir::status_number;
pub use proc_dir::{ProcDir, all_pids};
pub use selection::{Found, Selection};
pub use selector::Selector;
pub use target::Target;
pub use threads::ThreadName;
pub use unit::Unit;
pub use user::{Invoker, user_names};
