//! What is x86-64's own.

mod subject;
mod syscalls;

pub use subject::{Subject, subject};
pub use syscalls::{syscall, syscall_name, syscalls, waits_in_epoll};
