//! The report as a page for browsers: one file that asks no network for anything.
//!
//! Verdict, runtimes and sites are plain HTML, so that they can be read without JavaScript. What the
//! page draws by itself (the timeline, the flamegraph, tables of a range of time) it makes of single
//! waits, which are in the file as columns of numbers (`data`, `columns`). Its script and its style are
//! made from `profiler/web` by `cargo xtask web`.
//!
//! Nothing in a name can become a part of the page: in HTML it is escaped, and what the script gets is
//! compressed and only ever set as text. A policy in the head forbids every other script and all
//! connections.

mod columns;
mod data;
mod frames;
mod markup;
mod numbers;
mod pack;
mod page;
mod rest;
mod sites;
mod summary;

pub(super) use page::render;
