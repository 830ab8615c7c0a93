//! What this machine's kernel offers, and what it lets us do.

mod btf;
mod facts;
mod preflight;
pub mod privileges;
mod requirement;
mod requirements;

pub use btf::{BtfError, KernelBtf};
pub use facts::HostFacts;
pub use preflight::{Features, PreflightError, preflight};
pub use requirement::{
    Area, Fix, Refusal, RefusalKind, Refused, Requirement, State, first_refusal,
};
pub use requirements::requirements;
