//! What a system call is about, by its arguments.

use profiler_common::call;

/// What names the object of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The first argument, a descriptor.
    Descriptor,
    /// The first argument, a path.
    Path,
    /// The second argument, a path that may be relative to the first one, a directory.
    PathAt,
    /// The first argument, the address of a futex; the second is the operation.
    Futex,
    /// Something else, or nothing.
    Other,
}

/// What names the object of system call `number`.
#[must_use]
pub const fn subject(number: u32) -> Subject {
    match call::object_of(number) {
        call::DESCRIPTOR => Subject::Descriptor,
        call::PATH => Subject::Path,
        call::PATH_AT => Subject::PathAt,
        call::FUTEX => Subject::Futex,
        _ => Subject::Other,
    }
}
