//! Addresses to names: [`Frame`]s out of modules and offsets.

mod frame;

pub use frame::{Frame, Naming, Origin, Space};
