//! The chores of this repository, run as `cargo xtask VERB`; `cargo xtask help` lists them.

pub mod artifacts;
pub mod bench;
pub mod children;
pub mod demo;
pub mod interrupt;
pub mod paths;
pub mod process;
