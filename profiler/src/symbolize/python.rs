//! Functions of CPython.

/// They are on the stack only while Python's lock is being taken (`Python/ceval_gil.c`,
/// `Python/pystate.c`). A Python without symbols still exports all but the first.
pub(crate) const TAKING_LOCK: &[&str] = &[
    "take_gil",
    "PyEval_RestoreThread",
    "PyEval_AcquireThread",
    "PyEval_AcquireLock",
    "PyGILState_Ensure",
    "PyThreadState_Attach",
];
