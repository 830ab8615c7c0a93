//! What is looked at to judge this machine, each thing once.

use super::btf::{BtfError, KernelBtf};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use std::io::{self, Read};

/// Bytes of `/proc/kallsyms` looked at: the first symbols of x86_64 are offsets within the
/// memory of a CPU, of which the first one is 0 on every kernel.
const KALLSYMS: u64 = 64 << 10;

/// Says which kind of perf event a uprobe is, where there are any.
const UPROBES: &str = "/sys/bus/event_source/devices/uprobe/type";

/// This machine, as far as recordings depend on it.
#[derive(Debug)]
pub struct HostFacts {
    /// Architecture, as Rust names it.
    pub machine: &'static str,
    /// Our effective capabilities.
    pub held: CapabilitySet,
    /// The text of `/proc/self/ns/pid`; empty where unreadable.
    pub pid_ns: String,
    /// The text of `/proc/self/ns/user`; empty where unreadable.
    pub user_ns: String,
    /// `/sys/kernel/security/lockdown`, as `none [integrity] confidentiality`; empty where the
    /// kernel has no lockdown, or securityfs is not mounted.
    pub lockdown: String,
    /// The kernel's types.
    pub btf: Result<KernelBtf, BtfError>,
    /// What the kernel said to a small ring buffer; none where we lack the capabilities to ask.
    pub ring_buffer: Option<io::Result<bool>>,
    /// Whether a seccomp filter decides which system calls we may make.
    pub seccomp: bool,
    /// Whether there is no limit on locked memory.
    pub memlock_unlimited: bool,
    /// Whether `/proc/kallsyms` shows us addresses.
    pub kernel_names: bool,
    /// Whether the kernel offers probes in user code.
    pub uprobes: bool,
    /// The setting `kernel.kptr_restrict`.
    pub kptr_restrict: Option<i32>,
    /// The setting `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
    /// The setting `kernel.yama.ptrace_scope`; none where Yama is not in the kernel.
    pub ptrace_scope: Option<i32>,
}

impl HostFacts {
    /// Looks at this machine.
    ///
    /// # Errors
    /// Where the kernel does not even tell our capabilities.
    pub fn gather() -> io::Result<HostFacts> {
        let held = capabilities(None)?.effective;
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Ok(HostFacts {
            machine: std::env::consts::ARCH,
            held,
            pid_ns: link_text("/proc/self/ns/pid"),
            user_ns: link_text("/proc/self/ns/user"),
            lockdown: text("/sys/kernel/security/lockdown"),
            btf: KernelBtf::load(),
            ring_buffer: may_load(held).then(ring_buffer),
            seccomp: is_filtered(&text("/proc/self/status")),
            memlock_unlimited: getrlimit(Resource::Memlock).current.is_none(),
            kernel_names: std::fs::File::open("/proc/kallsyms")
                .is_ok_and(|file| shows_addresses(file.take(KALLSYMS))),
            uprobes: std::path::Path::new(UPROBES).exists(),
            kptr_restrict: text("/proc/sys/kernel/kptr_restrict").trim().parse().ok(),
            perf_event_paranoid: text("/proc/sys/kernel/perf_event_paranoid")
                .trim()
                .parse()
                .ok(),
            ptrace_scope: text("/proc/sys/kernel/yama/ptrace_scope")
                .trim()
                .parse()
                .ok(),
        })
    }
}

/// Whether BPF programs may be loaded. CAP_SYS_ADMIN stands for both capabilities, which were
/// parts of it until Linux 5.8.
pub(super) fn may_load(held: CapabilitySet) -> bool {
    held.contains(CapabilitySet::SYS_ADMIN)
        || held.contains(CapabilitySet::BPF | CapabilitySet::PERFMON)
}

/// Makes one small ring buffer: the kernel's word on whether the system call works here at all.
fn ring_buffer() -> io::Result<bool> {
    aya::sys::is_map_supported(aya::maps::MapType::RingBuf).map_err(|error| error.io_error)
}

/// Whether a seccomp filter is in force, by `/proc/self/status` (`SECCOMP_MODE_FILTER`).
fn is_filtered(status: &str) -> bool {
    let mut lines = status.lines();
    let mode = lines.find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

fn link_text(path: &str) -> String {
    std::fs::read_link(path)
        .map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Whether any line of kallsyms, `ffffffff81000000 T _text`, has an address that is not 0.
fn shows_addresses(mut kallsyms: impl Read) -> bool {
    let mut text = Vec::new();
    // What was read before an error counts.
    let _ = kallsyms.read_to_end(&mut text);
    text.split(|&byte| byte == b'\n').any(|line| {
        let address = line.split(|&byte| byte == b' ').next().unwrap_or_default();
        let is_hex = !address.is_empty() && address.iter().all(u8::is_ascii_hexdigit);
        is_hex && address.iter().any(|&digit| digit != b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_of_system_calls_is_seen() {
        assert!(is_filtered(
            "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"
        ));
        assert!(!is_filtered("Seccomp:\t0\nSeccomp_filters:\t0\n"));
        assert!(!is_filtered(""));
    }

    #[test]
    fn hidden_addresses_are_zeros() {
        assert!(!shows_addresses(&b""[..]));
        assert!(!shows_addresses(
            &b"0000000000000000 A fixed_percpu_data\n0000000000000000 T _text\n"[..]
        ));
        assert!(shows_addresses(
            &b"0000000000000000 A a\nffffffff81000000 T _text\n"[..]
        ));
        assert!(!shows_addresses(&b"what is this\n"[..]));
    }

    #[test]
    fn either_capability_set_loads() {
        use CapabilitySet as C;
        assert!(may_load(C::SYS_ADMIN));
        assert!(may_load(C::BPF | C::PERFMON | C::KILL));
        assert!(!may_load(C::BPF) && !may_load(C::PERFMON) && !may_load(C::empty()));
    }
}
