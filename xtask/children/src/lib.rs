//! Child processes that end with the value that stands for them, and the lines that they write,
//! read with a deadline. For `cargo xtask` and for holdup's live tests.

mod child;
mod error;
pub mod interrupt;
mod lines;

pub use child::{Child, Stream};
pub use error::{Error, Result};
pub use lines::Lines;
