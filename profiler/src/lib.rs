//! holdup: who is holding up your tokio workers?
//!
//! Data flows through the rooms in one direction:
//!
//! ```text
//! bpf (load, attach, drain) -> decode -> collect -> recording -> analyze -> report -> render
//!                                          |
//!      process (target, mappings), unwind (rows), symbolize (names), runtime and cause (rules)
//! ```
//!
//! [`recording`] and [`report`] are data only. [`analyze`] knows nothing of BPF, [`render`] knows
//! nothing of processes. The command line in [`cli`] ties the rooms together, one file a verb.
#![cfg(target_os = "linux")]

pub mod analyze;
pub mod arch;
pub mod bpf;
pub mod capture;
pub mod cause;
pub mod cli;
pub mod collect;
mod counted;
pub mod decode;
mod fast_hash;
pub mod host;
pub mod limits;
pub mod process;
pub mod recording;
pub mod render;
pub mod report;
pub mod runtime;
pub mod symbolize;
#[cfg(test)]
mod testing;
pub mod tui;
pub mod units;
pub mod unwind;
