//! What this kernel's verifier makes of the programs.

use super::programs::Programs;
use super::programs::load::{
    CALLS_TRACED, CPU_SAMPLE, PAGE_FAULT, PAGE_FAULT_HELPER, PANIC, SNAPSHOT, TRACEPOINTS,
};
use crate::host::KernelBtf;
use crate::units::Nanos;
use anyhow::Result;
use std::time::{Duration, Instant};

/// A program that the verifier has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The program's name.
    pub name: &'static str,
    /// Instructions that the verifier looked at, over all paths; the kernel's limit is 1,000,000
    /// (`BPF_COMPLEXITY_LIMIT_INSNS`). `None` before Linux 5.16, which does not tell.
    pub instructions: Option<u32>,
    /// How long it took to be verified and compiled.
    pub took: Duration,
}

/// Loads every program that this kernel has the helpers for, attaches none, and lets them go again.
///
/// # Errors
/// As [`Programs::load`], or where the verifier refuses a program.
pub fn probe(types: &KernelBtf) -> Result<Vec<Verified>> {
    let mut kernel = Programs::load(types, Nanos(0))?;
    let optional = types.has_helper(PAGE_FAULT_HELPER).then_some(PAGE_FAULT);
    let names = TRACEPOINTS
        .into_iter()
        .chain(optional)
        .chain(CALLS_TRACED)
        .chain([CPU_SAMPLE, PANIC, SNAPSHOT]);
    names
        .map(|name| {
            let began = Instant::now();
            let info = kernel.verify(name)?;
            Ok(Verified {
                name,
                instructions: info.verified_instruction_count(),
                took: began.elapsed(),
            })
        })
        .collect()
}
