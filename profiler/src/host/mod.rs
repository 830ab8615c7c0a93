//! What this machine's kernel offers, and what it lets us do.

mod btf;
mod facts;
mod preflight;
mod requirement;
mod requirements;

pub use btf::{BtfError, KernelBtf};
pub use facts::HostFacts;
pub use preflight::{Features, preflight};
pub use requirement::{Area, Refusal, Requirement, State, first_refusal};
pub use requirements::requirements;
