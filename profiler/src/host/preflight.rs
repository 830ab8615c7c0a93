//! What must be true before anything is loaded into the kernel.

use super::btf::KernelBtf;
use super::facts::HostFacts;
use super::requirement::first_refusal;
use super::requirements::requirements;
use crate::error::{Error, Result};
use rustix::thread::CapabilitySet;

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

/// Tests permission, kernel and namespaces: the list that `holdup check` prints.
///
/// # Errors
/// The first requirement that is missing, mostly with [`crate::error::Exit::Permission`] or
/// [`crate::error::Exit::Unsupported`], and what to do about it.
pub fn preflight() -> Result<Features> {
    let facts = HostFacts::gather()?;
    if let Some(error) = first_refusal(&requirements(&facts)) {
        return Err(error);
    }
    let unusable = "the kernel's type information cannot be used";
    let btf = facts
        .btf
        .map_err(|error| Error::unsupported(unusable).because(error))?;
    let map_files = CapabilitySet::SYS_ADMIN | CapabilitySet::CHECKPOINT_RESTORE;
    Ok(Features {
        btf,
        map_files: facts.held.intersects(map_files),
        other_users: facts.held.contains(CapabilitySet::SYS_PTRACE),
    })
}
