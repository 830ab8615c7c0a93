//! Whether this machine and user can record at all.

use libtest_mimic::{Completion, Failed};
use std::path::Path;

const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// Why a live test cannot run here, if it cannot.
pub(crate) fn missing() -> Option<String> {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("the kernel has no BTF (/sys/kernel/btf/vmlinux)".into());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective_capabilities(&status).unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    let wanted = [
        ("CAP_BPF", has(CAP_BPF) || has(CAP_SYS_ADMIN)),
        ("CAP_PERFMON", has(CAP_PERFMON) || has(CAP_SYS_ADMIN)),
        ("CAP_SYS_PTRACE", has(CAP_SYS_PTRACE)),
    ];
    let lacking: Vec<&str> = wanted
        .iter()
        .filter(|(_, had)| !had)
        .map(|(name, _)| *name)
        .collect();
    if lacking.is_empty() {
        None
    } else {
        Some(format!("no {}; run the tests as root", lacking.join(", ")))
    }
}

/// Why a test that changes users cannot run here, if it cannot.
pub(crate) fn missing_root() -> Option<String> {
    missing().or_else(|| {
        let root = rustix::process::geteuid().is_root();
        (!root).then(|| "not root; run the tests as root".into())
    })
}

/// Runs a trial, or says why it cannot be run here. CI may not pass over anything.
pub(crate) fn unless_skipped(
    missing: Option<String>,
    trial: impl FnOnce() -> Result<(), Failed>,
) -> Result<Completion, Failed> {
    match missing {
        None => trial().map(|()| Completion::Completed),
        Some(reason) if std::env::var_os("CI").is_some() => {
            Err(format!("cannot be skipped in CI: {reason}").into())
        }
        Some(reason) => Ok(Completion::ignored_with(format!("skipped: {reason}"))),
    }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let hex = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}
