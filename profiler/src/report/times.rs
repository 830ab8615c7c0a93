//! Times by state, and stretches of time.

use crate::runtime::State;
use crate::units::Nanos;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Nanoseconds by state. States without time are left out.
pub type StateTimes = BTreeMap<State, Nanos>;

/// A time in which no task of a runtime could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Stretch {
    /// Its begin, from the recording's start.
    pub start_ns: Nanos,
    /// Its length.
    pub length_ns: Nanos,
}
