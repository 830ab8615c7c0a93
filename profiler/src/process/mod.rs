//! The target: its modules, mappings and threads.

pub mod module;
