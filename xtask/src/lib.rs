//! The chores of this repository, run as `cargo xtask VERB`; `cargo xtask help` lists them.
//!
//! One file a verb, with what only that verb needs in the folder of the same name: [`ebpf`] builds
//! the kernel programs, [`mod@bench`] measures, [`vm`] runs guests, [`lint`] checks. What several verbs
//! need lies beside them.

pub mod artifacts;
pub mod bench;
pub mod cli;
pub mod compare;
pub mod debian;
pub mod demo;
pub mod ebpf;
pub mod forms;
pub mod fuzz;
pub mod lint;
pub mod paths;
pub mod pictures;
pub mod process;
pub mod readers;
pub mod results;
pub mod setup;
pub mod shipped;
pub mod test;
pub mod toolchain;
pub mod verified;
pub mod vm;
pub mod web;
