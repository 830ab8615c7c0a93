//! Reports in the formats of other programs. What they need beyond the report's sums is in
//! [`Report::detail`](crate::report::Report::detail).

pub(super) mod firefox;
mod json;
pub(super) mod lanes;
pub(super) mod names;
pub mod ndjson;
pub(super) mod otlp;
mod pieces;
pub(super) mod pprof;
mod protobuf;
pub(super) mod speedscope;
pub(super) mod trace;

pub use names::left_out;
