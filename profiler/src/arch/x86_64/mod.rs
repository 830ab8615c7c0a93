//! What is x86-64's own.

mod syscalls;

pub use syscalls::{syscall, syscall_name, syscalls};
