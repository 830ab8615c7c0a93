//! The endpoints, twice: in `v1` each makes one mistake, in `v2` none does.

pub mod answers;
pub mod v1;
pub mod v2;
