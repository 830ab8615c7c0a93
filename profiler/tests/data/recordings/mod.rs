//! Recordings for the golden files, built by code so that they follow the types.

mod builder;
mod doubtful;
mod services;

pub use doubtful::{empty, hostile, lossy, no_tokio, stripped};
pub use services::{crowded, current_thread, healthy, hung, starved};

use holdup::model::Recording;

/// Every recording with its name.
pub fn all() -> Vec<(&'static str, Recording)> {
    vec![
        ("healthy", healthy()),
        ("starved", starved()),
        ("hung", hung()),
        ("crowded", crowded()),
        ("current_thread", current_thread()),
        ("stripped", stripped()),
        ("lossy", lossy()),
        ("hostile", hostile()),
        ("no_tokio", no_tokio()),
        ("empty", empty()),
    ]
}
