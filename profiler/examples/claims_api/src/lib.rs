//! A health-insurance claims service that makes every classic mistake of an async program once,
//! and does the same work the right way beside it. See the README for the table of both.

pub mod app;
pub mod clearinghouse;
pub mod directory;
pub mod fraud;
pub mod handlers;
pub mod ledger;
pub mod report;
pub mod store;
pub mod upstream;
