//! What this machine's kernel offers, and what it lets us do.

mod btf;
mod preflight;

pub use btf::{BtfError, KernelBtf};
pub use preflight::{Features, preflight};
