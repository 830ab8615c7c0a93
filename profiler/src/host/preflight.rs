//! What must be true before anything is loaded into the kernel.

use super::btf::{BtfError, KernelBtf};
use super::facts::HostFacts;
use super::requirement::{Refused, first_refusal};
use super::requirements::requirements;
use rustix::thread::CapabilitySet;
use std::io;

/// A kernel that passed, and what was learned of it.
#[derive(Debug)]
pub struct Features {
    /// The kernel's types.
    pub btf: KernelBtf,
    /// Whether `map_files` may be opened, so that deleted and replaced files can be read.
    pub map_files: bool,
    /// Whether processes of other users may be looked into.
    pub other_users: bool,
}

/// Why nothing can be recorded on this machine.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The kernel does not even tell our capabilities.
    #[error("cannot read my own capabilities")]
    Capabilities(#[source] io::Error),
    /// A requirement is missing.
    #[error("{}", .0.message)]
    Refused(Refused),
    /// The kernel's types are there and cannot be used.
    #[error("the kernel's type information cannot be used")]
    Btf(#[source] BtfError),
}

/// Tests permission, kernel and namespaces: the list that `holdup check` prints.
///
/// # Errors
/// The first requirement that is missing.
pub fn preflight() -> Result<Features, PreflightError> {
    let facts = HostFacts::gather().map_err(PreflightError::Capabilities)?;
    if let Some(refused) = first_refusal(&requirements(&facts)) {
        return Err(PreflightError::Refused(refused));
    }
    let btf = facts.btf.map_err(PreflightError::Btf)?;
    let map_files = CapabilitySet::SYS_ADMIN | CapabilitySet::CHECKPOINT_RESTORE;
    Ok(Features {
        btf,
        map_files: facts.held.intersects(map_files),
        other_users: facts.held.contains(CapabilitySet::SYS_PTRACE),
    })
}
