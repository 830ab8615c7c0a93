//! The chores of this repository, run as `cargo xtask VERB`; `cargo xtask help` lists them.
//!
//! One file a verb. [`inputs`] and [`note`] are shared with the test that finds a stale eBPF
//! object.

pub mod artifacts;
pub mod bench;
pub mod children;
pub mod cli;
pub mod debian;
pub mod demo;
pub mod ebpf;
pub mod fuzz;
pub mod inputs;
pub mod interrupt;
pub mod lint;
pub mod note;
pub mod paths;
pub mod process;
pub mod rustc_wrapper;
pub mod setup;
pub mod soak;
pub mod stack_depth;
pub mod strip;
pub mod test;
pub mod toolchain;
pub mod verified;
pub mod vm_test;
