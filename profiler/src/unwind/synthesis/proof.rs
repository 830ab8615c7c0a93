//! What is asked about a function, and what the answer may be.

use profiler_common::row::Rule;

/// To what a table of jump targets leads; it is given, and they are, as offsets from the function's start,
/// which wrap around.
pub(in crate::unwind) type Targets<'a> = dyn Fn(u64) -> Vec<u64> + 'a;

/// Whether it is known how far a function reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::unwind) enum Bounds {
    /// Its symbol says so, or that of the next one.
    Known,
    /// It reaches up to the next one that is known, at most.
    Guessed,
}

/// What can be proven of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::unwind) enum Proof {
    /// Rules by offset from its start, of which the first is at 0; each holds up to the next. Code that
    /// is never reached (constants, padding) has [`Rule::GAP`].
    Rules(Vec<(u32, Rule)>),
    /// It is left, in the middle of its frame, for what was taken for other functions: for what begins
    /// at these offsets from its start, which wrap around.
    NoStarts(Vec<u32>),
    /// Nothing.
    None,
}

/// Where a function is left by jumps, as offsets from its start, which wrap around.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Exits {
    /// In the middle of its frame: no function begins there.
    pub(super) no_starts: Vec<u32>,
    /// With nothing of its own on the stack: another function begins there.
    pub(super) starts: Vec<u32>,
}
