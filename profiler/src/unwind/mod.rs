//! Unwinding without frame pointers: `.eh_frame` to rows, rows to the kernel's tables.

mod called;
mod effort;
mod jumps;
mod prologues;
mod reference;
mod relocations;
mod remote;
mod rule;
pub mod synthesis;
mod table;
mod truncation;
mod uncovered;
mod walker;

pub use effort::Effort;
pub use reference::{Reference, Sections};
pub use relocations::ReadAt;
pub use remote::RemoteMemory;
pub use table::{Image, UnwindTable, build_all};
pub use truncation::Truncation;
pub use walker::{LEFT_OUT, Mapped, Regs, Tables, unroll, walk, walk_counted, walk_outcome};
