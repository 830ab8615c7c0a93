//! The JSON report, for other programs: schema 2.
//!
//! One object, pretty-printed, its members always in the same order; times are nanoseconds, addresses
//! hexadecimal text. Stacks and frames are in tables, and named by index elsewhere. Members are added
//! without notice, and [`Report::schema`](crate::report::Report::schema) grows when one goes or
//! changes its meaning. What each means is said in the JSON Schema that [`schema`] writes. Names are
//! the target's own: what a reader's eye or terminal could be tricked with is written as JSON's
//! escapes, which every program reads as the same characters.

mod document;
mod dump;
mod stacks;
mod write;

pub use document::{render, schema};
pub use dump::dump;
pub(super) use write::{add_line, line, raw, write};
