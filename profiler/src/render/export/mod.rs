//! Reports in the formats of other programs. What they need beyond the report's sums is in
//! [`Report::detail`](crate::report::Report::detail).

mod names;
pub(super) mod pprof;
mod protobuf;
