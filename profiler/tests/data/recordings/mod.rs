//! Recordings for the golden files, built by code so that they follow the types.

pub mod alike;
pub mod builder;
pub mod busy_service;
mod calls;
mod doubtful;
mod harm;
mod identity;
pub mod incident;
mod intervals;
mod polls;
mod pool;
mod services;
mod several;

pub use calls::{in_calls, no_panics};
pub use doubtful::{empty, hostile, lossy, no_tokio, stripped, unclear};
pub use harm::{held_lock, hog, quota, two_places};
pub use identity::{
    context_alone, context_missing, contradicted, hung_and_stripped, no_worker, too_old,
};
pub use intervals::{beside_hog, in_intervals};
pub use polls::{in_pieces, stopped, stopped_often};
pub use pool::{full_pool, main_waits, stuck_pool};
pub use services::{busy, crowded, current_thread, healthy, hung, starved, throttled};
pub use several::several;

use holdup::recording::Recording;

/// Every recording with its name.
pub fn all() -> Vec<(&'static str, Recording)> {
    vec![
        ("healthy", healthy()),
        ("starved", starved()),
        ("hung", hung()),
        ("busy", busy()),
        ("throttled", throttled()),
        ("crowded", crowded()),
        ("current_thread", current_thread()),
        ("stripped", stripped()),
        ("lossy", lossy()),
        ("unclear", unclear()),
        ("hostile", hostile()),
        ("no_tokio", no_tokio()),
        ("hog", hog()),
        ("held_lock", held_lock()),
        ("quota", quota()),
        ("two_places", two_places()),
        ("in_calls", in_calls()),
        ("no_panics", no_panics()),
        ("several", several()),
        ("beside_hog", beside_hog()),
        ("context_alone", context_alone()),
        ("hung_and_stripped", hung_and_stripped()),
        ("contradicted", contradicted()),
        ("context_missing", context_missing()),
        ("too_old", too_old()),
        ("no_worker", no_worker()),
        ("in_pieces", in_pieces()),
        ("stopped", stopped()),
        ("stopped_often", stopped_often()),
        ("full_pool", full_pool()),
        ("stuck_pool", stuck_pool()),
        ("main_waits", main_waits()),
        ("empty", empty()),
    ]
}
