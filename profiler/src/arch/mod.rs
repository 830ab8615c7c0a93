//! What belongs to one processor architecture. x86-64 is the only one so far: a second one is a
//! folder beside it.

mod x86_64;

pub use x86_64::{Subject, subject, syscall, syscall_name, syscalls, waits_in_epoll};
