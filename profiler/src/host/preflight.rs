//! What must be true before anything is loaded into the kernel.
//!
//! Features are probed; versions are not compared, since distributions carry back what they
//! like. Permission is tested by capability and not by user id, since services are given
//! capabilities without being root and containers are root without having them.

use super::btf::{BtfError, KernelBtf};
use crate::error::{Error, Result};
use rustix::thread::{CapabilitySet, capabilities};

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INIT_PID_NS: &str = "pid:[4026531836]";
/// Inode of the initial user namespace (`PROC_USER_INIT_INO`).
const INIT_USER_NS: &str = "user:[4026531837]";

/// A kernel that passed, and what was learned of it.
#[derive(Debug)]
pub struct Features {
    /// The kernel's types.
    pub btf: KernelBtf,
    /// Arguments of `tp_btf/sched_switch`: 3 before Linux 5.18, then 4 (`prev_state` came last).
    pub sched_switch_args: u32,
    /// Whether `bpf_task_pt_regs` exists (Linux 5.15).
    pub task_pt_regs: bool,
    /// Whether `map_files` may be opened, so that deleted and replaced files can be read.
    pub map_files: bool,
    /// Whether processes of other users may be looked into.
    pub other_users: bool,
}

/// Tests permission, kernel and namespaces.
///
/// # Errors
/// With [`crate::error::Exit::Permission`] or [`crate::error::Exit::Unsupported`], and what to
/// do about it.
pub fn preflight() -> Result<Features> {
    if !cfg!(target_arch = "x86_64") {
        return Err(Error::unsupported(
            "holdup knows the stacks of x86_64 only, this is another machine",
        ));
    }
    let held = capabilities(None)
        .map_err(|errno| Error::new("cannot read my own capabilities").because(errno))?
        .effective;
    check_capabilities(held)?;
    check_namespaces(
        &link_text("/proc/self/ns/pid"),
        &link_text("/proc/self/ns/user"),
    )?;
    check_lockdown(&std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default())?;
    let btf = KernelBtf::load().map_err(btf_error)?;
    let sched_switch_args = check_kernel(&btf)?;
    check_bpf_syscall()?;
    let admin = held.contains(CapabilitySet::SYS_ADMIN);
    Ok(Features {
        task_pt_regs: btf.has_enum_value("bpf_func_id", "BPF_FUNC_task_pt_regs"),
        btf,
        sched_switch_args,
        map_files: admin || held.contains(CapabilitySet::CHECKPOINT_RESTORE),
        other_users: held.contains(CapabilitySet::SYS_PTRACE),
    })
}

fn link_text(path: &str) -> String {
    std::fs::read_link(path)
        .map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn check_capabilities(held: CapabilitySet) -> Result<()> {
    let admin = held.contains(CapabilitySet::SYS_ADMIN);
    let mut missing = Vec::new();
    if !admin && !held.contains(CapabilitySet::BPF) {
        missing.push("CAP_BPF");
    }
    if !admin && !held.contains(CapabilitySet::PERFMON) {
        missing.push("CAP_PERFMON");
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::permission(format!(
        "not permitted to load BPF programs: {} missing",
        missing.join(" and ")
    )))
}

/// `pid` and `user` are the texts of the links in `/proc/self/ns`; empty where unreadable.
fn check_namespaces(pid: &str, user: &str) -> Result<()> {
    if !user.is_empty() && user != INIT_USER_NS {
        return Err(Error::permission(
            "not permitted to load BPF programs: this is a user namespace, its capabilities do not count",
        )
        .hint("run holdup on the host, or in a container without user namespaces"));
    }
    if !pid.is_empty() && pid != INIT_PID_NS {
        // The kernel side sees pids as the host counts them, and cannot be told them from here.
        return Err(Error::new(
            "this is a container with its own process ids, the kernel counts others",
        )
        .hint("run holdup on the host, or start the container with --pid=host"));
    }
    Ok(())
}

/// `state` is the content of `/sys/kernel/security/lockdown`, as `none [integrity]
/// confidentiality`; empty where the kernel has no lockdown.
fn check_lockdown(state: &str) -> Result<()> {
    if state.contains("[confidentiality]") {
        return Err(Error::unsupported(
            "the kernel is locked down for confidentiality: BPF programs may not read its memory",
        )
        .hint("boot with lockdown=integrity or without lockdown"));
    }
    Ok(())
}

fn btf_error(error: BtfError) -> Error {
    match &error {
        BtfError::Read(io) if io.kind() == std::io::ErrorKind::NotFound => Error::unsupported(
            "the kernel carries no type information (/sys/kernel/btf/vmlinux)",
        )
        .hint("use a kernel built with CONFIG_DEBUG_INFO_BTF=y, as all large distributions have"),
        _ => Error::unsupported("the kernel's type information cannot be used").because(error),
    }
}

/// The arguments of `sched_switch`, of a kernel that has all we need.
fn check_kernel(btf: &KernelBtf) -> Result<u32> {
    let mut missing = Vec::new();
    for (helper, since) in [
        ("ringbuf_reserve", "the ring buffer, Linux 5.8"),
        ("loop", "bpf_loop, Linux 5.17"),
        ("task_pt_regs", "bpf_task_pt_regs, Linux 5.15"),
    ] {
        if !btf.has_enum_value("bpf_func_id", &format!("BPF_FUNC_{helper}")) {
            missing.push(since);
        }
    }
    if btf.tracepoint_args("sched_waking").is_none() {
        missing.push("tracepoint sched_waking with types");
    }
    let args = btf.tracepoint_args("sched_switch");
    match args {
        Some(args) if missing.is_empty() => Ok(args),
        _ => {
            if args.is_none() {
                missing.push("tracepoint sched_switch with types");
            }
            Err(
                Error::unsupported(format!("the kernel lacks {}", missing.join("; ")))
                    .hint("use Linux 6.1 or newer"),
            )
        }
    }
}

/// Makes one small ring buffer: the kernel's word on whether the system call works here at all.
fn check_bpf_syscall() -> Result<()> {
    use aya::maps::MapType;
    match aya::sys::is_map_supported(MapType::RingBuf) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::unsupported("the kernel lacks the BPF ring buffer")
            .hint("use Linux 6.1 or newer")),
        Err(error) => {
            let errno = error.io_error.raw_os_error();
            let exit = match errno {
                Some(libc::ENOSYS) => Error::unsupported("the kernel is built without BPF"),
                Some(libc::EPERM | libc::EACCES) => Error::permission(
                    "the kernel refuses the bpf system call although the capabilities are there (a seccomp filter or a security module)",
                ),
                _ => Error::new("cannot make a BPF ring buffer"),
            };
            Err(exit.because(error.io_error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn capabilities_decide() {
        for (held, missing) in [
            (CapabilitySet::SYS_ADMIN, None),
            (CapabilitySet::BPF | CapabilitySet::PERFMON, None),
            (CapabilitySet::BPF, Some("CAP_PERFMON missing")),
            (
                CapabilitySet::SYS_PTRACE,
                Some("CAP_BPF and CAP_PERFMON missing"),
            ),
        ] {
            let got = check_capabilities(held);
            match missing {
                None => assert!(got.is_ok(), "{held:?}"),
                Some(text) => {
                    let error = got.expect_err("must lack something");
                    assert!(error.to_string().ends_with(text), "{error}");
                    assert_eq!(error.exit_status(), Exit::Permission);
                }
            }
        }
    }

    #[test]
    fn namespaces_and_lockdown_are_told_apart() {
        assert!(check_namespaces(INIT_PID_NS, INIT_USER_NS).is_ok());
        assert!(
            check_namespaces("", "").is_ok(),
            "no /proc: nothing is known"
        );
        let exit = |result: Result<()>| result.expect_err("refused").exit_status();
        assert_eq!(
            exit(check_namespaces(INIT_PID_NS, "user:[1]")),
            Exit::Permission
        );
        assert_eq!(
            exit(check_namespaces("pid:[1]", INIT_USER_NS)),
            Exit::Failure
        );
        assert!(check_lockdown("none [integrity] confidentiality\n").is_ok());
        assert_eq!(
            exit(check_lockdown("none integrity [confidentiality]\n")),
            Exit::Unsupported
        );
    }

    #[test]
    fn a_kernel_without_anything_is_told_all_it_lacks() {
        // A header, no types, one empty string.
        let words = [0xeb9f | 1 << 16, 24u32, 0, 0, 0, 1];
        let mut data: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        data.push(0);
        let btf = KernelBtf::parse(data).expect("valid");
        let error = check_kernel(&btf).expect_err("it has nothing");
        assert_eq!(error.exit_status(), Exit::Unsupported);
        for part in [
            "ring buffer",
            "bpf_loop",
            "bpf_task_pt_regs",
            "sched_waking",
            "sched_switch",
        ] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_a_kernel_without_types() {
        let error = btf_error(BtfError::Read(std::io::ErrorKind::NotFound.into()));
        assert_eq!(error.exit_status(), Exit::Unsupported);
        assert!(
            error
                .suggestion()
                .is_some_and(|hint| hint.contains("CONFIG_DEBUG_INFO_BTF"))
        );
    }
}
