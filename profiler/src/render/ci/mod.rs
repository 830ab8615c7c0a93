//! Forms that continuous integration reads: what `--fail-if` found.

pub(super) mod codequality;
pub(super) mod github;
pub(super) mod junit;
mod offence;
