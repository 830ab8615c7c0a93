//! What is one architecture's own. Another one would be a file beside this with the same functions,
//! and this the place that chooses.

mod x86_64;

pub(crate) use x86_64::*;
