//! Unwinding rows (filled in by the unwind room).
