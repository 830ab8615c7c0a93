//! What is x86-64's own.

pub mod call;
pub mod row;
pub mod tls;
pub mod walk;
