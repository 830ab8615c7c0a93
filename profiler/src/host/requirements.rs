//! Everything that recordings need of this machine, in the order in which it is told.
//!
//! Features are probed; versions are not compared, since distributions carry back what they
//! like. Permission is tested by capability and not by user id, since services are given
//! capabilities without being root and containers are root without having them.

use super::btf::{BtfError, KernelBtf};
use super::facts::HostFacts;
use super::requirement::{Area, Fix, Refusal, RefusalKind, Requirement};
use rustix::thread::CapabilitySet;
use std::io;

/// Inode of the initial pid namespace (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INIT_PID_NS: &str = "pid:[4026531836]";
/// Inode of the initial user namespace (`PROC_USER_INIT_INO`).
const INIT_USER_NS: &str = "user:[4026531837]";

/// Fields of `task_struct` that the kernel programs read; `state` is the older name of `__state`.
const TASK_FIELDS: [&str; 6] = ["pid", "tgid", "comm", "on_cpu", "nvcsw", "stack"];

/// Arguments of `tp_btf/sched_switch` that are needed: up to the two tasks.
const SCHED_SWITCH_ARGS: u32 = 3;

/// Judges a machine: every requirement, whether it is met or not.
#[must_use]
pub fn requirements(facts: &HostFacts) -> Vec<Requirement> {
    let mut list = permissions(facts);
    list.push(machine(facts.machine));
    list.push(lockdown(&facts.lockdown));
    list.extend(kernel(&facts.btf));
    list.push(uprobes(facts.uprobes));
    list.push(ring_buffer(facts.ring_buffer.as_ref(), facts.seccomp));
    list.extend(settings(facts));
    list
}

fn permissions(facts: &HostFacts) -> Vec<Requirement> {
    let admin = facts.held.contains(CapabilitySet::SYS_ADMIN);
    let new = |id, name, purpose| Requirement::new(Area::Permission, id, name, purpose);
    let capability = |id, name, bit, or_admin: bool, purpose| {
        let requirement = new(id, name, purpose);
        let held = facts.held.contains(bit) || (or_admin && admin);
        (requirement, held)
    };
    let essential = |id, name, bit, purpose| {
        let (requirement, held) = capability(id, name, bit, true, purpose);
        if held {
            requirement
        } else {
            requirement.missing(Refusal::Capability(name))
        }
    };
    let useful = |id, name: &'static str, bit, or_admin, purpose, lacking: &str| {
        let (requirement, held) = capability(id, name, bit, or_admin, purpose);
        if held {
            requirement
        } else {
            requirement.limited(lacking).fix(Fix::Give(name))
        }
    };
    let mut list = vec![
        essential(
            "cap-bpf",
            "CAP_BPF",
            CapabilitySet::BPF,
            "load programs, make tables",
        ),
        essential(
            "cap-perfmon",
            "CAP_PERFMON",
            CapabilitySet::PERFMON,
            "attach programs to tracepoints, read kernel memory",
        ),
        useful(
            "cap-sys-ptrace",
            "CAP_SYS_PTRACE",
            CapabilitySet::SYS_PTRACE,
            false,
            "look into processes of other users",
            "only processes of your own user can be recorded",
        ),
    ];
    list.push(read_capability(facts.held));
    list.push(useful(
        "cap-checkpoint-restore",
        "CAP_CHECKPOINT_RESTORE",
        CapabilitySet::CHECKPOINT_RESTORE,
        true,
        "read programs replaced or deleted since they started",
        "programs replaced or deleted since they started cannot be unwound or named",
    ));
    list.push(syslog_capability(facts));
    list.push(resource_capability(facts));
    list.push(user_namespace(&facts.user_ns));
    list.push(pid_namespace(&facts.pid_ns));
    list
}

fn read_capability(held: CapabilitySet) -> Requirement {
    // Who may write everything may read it.
    let reads_all = CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE;
    let read = Requirement::new(
        Area::Permission,
        "cap-dac-read-search",
        "CAP_DAC_READ_SEARCH",
        "read programs that only their owner may read, and the memory of other users' threads",
    );
    if held.intersects(reads_all) {
        read
    } else {
        read.limited(
            "programs that others may not read cannot be unwound or named, and other users' waits \
             from before the recording have no stacks",
        )
        .fix(Fix::Give("CAP_DAC_READ_SEARCH"))
    }
}

fn syslog_capability(facts: &HostFacts) -> Requirement {
    let syslog = Requirement::new(
        Area::Permission,
        "cap-syslog",
        "CAP_SYSLOG",
        "see the addresses of kernel functions",
    );
    match (
        facts.held.contains(CapabilitySet::SYSLOG),
        facts.kernel_names,
    ) {
        (true, _) => syslog,
        (false, true) => syslog.found("not held, and not needed here: everybody may see them"),
        (false, false) => syslog
            .limited("kernel functions have no names in reports")
            .fix(Fix::Give("CAP_SYSLOG")),
    }
}

fn resource_capability(facts: &HostFacts) -> Requirement {
    let resource = Requirement::new(
        Area::Permission,
        "cap-sys-resource",
        "CAP_SYS_RESOURCE",
        "lock memory for tables",
    );
    let charges = facts.btf.as_ref().is_ok_and(KernelBtf::charges_memlock);
    if !charges {
        resource.found(
            "not needed: since Linux 5.11 BPF tables count as the cgroup's memory, not as locked",
        )
    } else if facts.held.contains(CapabilitySet::SYS_RESOURCE) || facts.memlock_unlimited {
        resource.found("needed: before Linux 5.11 BPF tables count as locked memory")
    } else {
        resource.missing(Refusal::Capability("CAP_SYS_RESOURCE"))
    }
}

fn user_namespace(link: &str) -> Requirement {
    let requirement = Requirement::new(
        Area::Permission,
        "user-namespace",
        "initial user namespace",
        "have capabilities that count",
    );
    match link {
        INIT_USER_NS => requirement,
        "" => requirement.unknown("/proc/self/ns/user is unreadable"),
        _ => requirement
            .missing(Refusal::Other {
                kind: RefusalKind::Permission,
                message: "not permitted to load BPF programs: this is a user namespace, its capabilities do not count".into(),
            })
            .fix(Fix::HostUserNamespace),
    }
}

fn pid_namespace(link: &str) -> Requirement {
    let requirement = Requirement::new(
        Area::Permission,
        "pid-namespace",
        "initial pid namespace",
        "count processes as the kernel does",
    );
    match link {
        INIT_PID_NS => requirement,
        "" => requirement.unknown("/proc/self/ns/pid is unreadable"),
        // The kernel side sees pids as the host counts them, and cannot be told them from here.
        _ => requirement
            .missing(Refusal::Other {
                kind: RefusalKind::Permission,
                message: "this is a container with its own process ids, the kernel counts others"
                    .into(),
            })
            .fix(Fix::HostPidNamespace),
    }
}

fn machine(machine: &str) -> Requirement {
    let requirement = Requirement::new(
        Area::Kernel,
        "machine",
        "x86_64",
        "know how stacks are laid out",
    );
    if machine == "x86_64" {
        return requirement;
    }
    requirement.missing(Refusal::Other {
        kind: RefusalKind::Kernel,
        message: format!("holdup knows the stacks of x86_64 only, this is {machine}"),
    })
}

fn lockdown(state: &str) -> Requirement {
    let requirement = Requirement::new(
        Area::Kernel,
        "lockdown",
        "lockdown",
        "let programs read kernel memory",
    );
    let chosen = state
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(chosen, _)| chosen);
    match chosen {
        Some("confidentiality") => requirement
            .missing(Refusal::Other {
                kind: RefusalKind::Kernel,
                message: "the kernel is locked down for confidentiality: BPF programs may not read its memory".into(),
            })
            .fix(Fix::NoLockdown),
        Some(chosen) => requirement.found(chosen),
        None => requirement.found("none in this kernel"),
    }
}

fn types(btf: &Result<KernelBtf, BtfError>) -> Requirement {
    let types = Requirement::new(
        Area::Kernel,
        "btf",
        "BTF",
        "know the kernel's own types and offsets",
    );
    match btf {
        Ok(btf) => types.found(format!("{} types", btf.len())),
        Err(BtfError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {
            let refusal = Refusal::Other {
                kind: RefusalKind::Kernel,
                message: "the kernel carries no type information (/sys/kernel/btf/vmlinux)".into(),
            };
            types.missing(refusal).fix(Fix::KernelWithBtf)
        }
        Err(error) => types.missing(Refusal::Other {
            kind: RefusalKind::Kernel,
            message: format!("the kernel's type information cannot be used: {error}"),
        }),
    }
}

fn kernel(btf: &Result<KernelBtf, BtfError>) -> Vec<Requirement> {
    let mut list = vec![types(btf)];
    let btf = btf.as_ref().ok();
    let has = |id, name, purpose, refusal, test: &dyn Fn(&KernelBtf) -> bool| {
        let requirement = Requirement::new(Area::Kernel, id, name, purpose);
        match btf.map(test) {
            None => requirement.unknown("without BTF nobody can tell"),
            Some(true) => requirement,
            Some(false) => requirement
                .missing(Refusal::Kernel(refusal))
                .fix(Fix::NewerKernel),
        }
    };
    let helper = |name: &'static str| move |btf: &KernelBtf| btf.has_helper(name);
    let tracepoint =
        |name: &'static str| move |btf: &KernelBtf| btf.tracepoint_args(name).is_some();
    list.push(registers(btf));
    list.push(page_faults(btf));
    list.push(system_calls(btf));
    list.extend([
        has(
            "task-struct",
            "fields of task_struct",
            "tell threads and their states apart",
            "fields of task_struct that holdup reads",
            &|btf| {
                let field = |name: &str| btf.member_offset("task_struct", name).is_some();
                TASK_FIELDS.into_iter().all(field) && (field("__state") || field("state"))
            },
        ),
        has(
            "ring-buffer-output",
            "bpf_ringbuf_output",
            "hand waits and stacks to userspace",
            "the ring buffer, Linux 5.8",
            &helper("ringbuf_output"),
        ),
        has(
            "task-iterator",
            "task iterator",
            "see waits that began before the recording",
            "the task iterator, Linux 5.8",
            &|btf| btf.has_function("bpf_iter_task"),
        ),
        has(
            "tp-sched-switch",
            "tp_btf/sched_switch",
            "see every wait begin and end",
            "tracepoint sched_switch with types",
            &|btf| btf.tracepoint_args("sched_switch") >= Some(SCHED_SWITCH_ARGS),
        ),
        has(
            "tp-sched-waking",
            "tp_btf/sched_waking",
            "see who ends a wait, and when",
            "tracepoint sched_waking with types",
            &tracepoint("sched_waking"),
        ),
        has(
            "tp-sched-process-fork",
            "tp_btf/sched_process_fork",
            "see threads being born",
            "tracepoint sched_process_fork with types",
            &tracepoint("sched_process_fork"),
        ),
        has(
            "tp-sched-process-exec",
            "tp_btf/sched_process_exec",
            "see the target become another program",
            "tracepoint sched_process_exec with types",
            &tracepoint("sched_process_exec"),
        ),
    ]);
    list
}

/// The helper came with Linux 5.17.
fn page_faults(btf: Option<&KernelBtf>) -> Requirement {
    let requirement = Requirement::new(
        Area::Kernel,
        "bpf-find-vma",
        "bpf_find_vma",
        "tell the file that a page fault waits for",
    );
    match btf.map(|btf| btf.has_helper("find_vma")) {
        None => requirement.unknown("without BTF nobody can tell"),
        Some(true) => requirement,
        Some(false) => {
            requirement.found("not there: waits in page faults are shown without a file")
        }
    }
}

/// Tracepoints that few recordings want.
fn system_calls(btf: Option<&KernelBtf>) -> Requirement {
    let requirement = Requirement::new(
        Area::Kernel,
        "tp-sys-enter",
        "tp_btf/sys_enter, sys_exit",
        "measure time inside system calls (--syscalls)",
    );
    let there = |btf: &KernelBtf| {
        ["sys_enter", "sys_exit"]
            .into_iter()
            .all(|name| btf.tracepoint_args(name).is_some())
    };
    match btf.map(there) {
        None => requirement.unknown("without BTF nobody can tell"),
        Some(true) => requirement,
        Some(false) => requirement.found("not there: --syscalls cannot be had"),
    }
}

/// A part of the kernel that few recordings want.
fn uprobes(there: bool) -> Requirement {
    let requirement = Requirement::new(
        Area::Kernel,
        "uprobes",
        "uprobes",
        "count panics (--panics)",
    );
    if there {
        requirement
    } else {
        requirement.found("not there: --panics cannot be had")
    }
}

/// The helper came with Linux 5.15; before, registers are read where it would find them.
fn registers(btf: Option<&KernelBtf>) -> Requirement {
    let requirement = Requirement::new(
        Area::Kernel,
        "bpf-task-pt-regs",
        "bpf_task_pt_regs",
        "read the registers of a waiting thread",
    );
    match btf.map(|btf| btf.has_helper("task_pt_regs")) {
        None => requirement.unknown("without BTF nobody can tell"),
        Some(true) => requirement,
        Some(false) => requirement
            .found("not there, and not needed: registers are read from the top of kernel stacks"),
    }
}

fn ring_buffer(made: Option<&io::Result<bool>>, seccomp: bool) -> Requirement {
    let requirement = Requirement::new(
        Area::Kernel,
        "bpf-system-call",
        "bpf system call",
        "make a ring buffer, as a test",
    );
    let error = match made {
        None => return requirement.unknown("cannot be tried without CAP_BPF and CAP_PERFMON"),
        Some(Ok(true)) => return requirement,
        Some(Ok(false)) => {
            let part = "the ring buffer, Linux 5.8";
            return requirement
                .missing(Refusal::Kernel(part))
                .fix(Fix::NewerKernel);
        }
        Some(Err(error)) => error,
    };
    // A filter may answer either way.
    let (kind, what, fix) = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSYS) if seccomp => (
            RefusalKind::Permission,
            "a seccomp filter refuses the bpf system call although the capabilities are there",
            Some(Fix::NoSeccomp),
        ),
        Some(libc::ENOSYS) => (RefusalKind::Kernel, "the kernel is built without BPF", None),
        Some(libc::EPERM | libc::EACCES) => (
            RefusalKind::Permission,
            "a security module refuses the bpf system call although the capabilities are there",
            Some(Fix::LetBpfPass),
        ),
        _ => (RefusalKind::Other, "cannot make a BPF ring buffer", None),
    };
    let message = format!("{what}: {error}");
    let missing = requirement.missing(Refusal::Other { kind, message });
    match fix {
        Some(fix) => missing.fix(fix),
        None => missing,
    }
}

fn settings(facts: &HostFacts) -> Vec<Requirement> {
    let new = |id, name, purpose| Requirement::new(Area::Setting, id, name, purpose);
    let value = |setting: Option<i32>| match setting {
        Some(value) => value.to_string(),
        None => "not there".into(),
    };
    let names = new(
        "kptr-restrict",
        "kernel.kptr_restrict",
        "show addresses of kernel functions",
    );
    let found = value(facts.kptr_restrict);
    let names = match facts.kptr_restrict {
        _ if facts.kernel_names => names.found(found),
        // 2 hides them from everybody; below that, CAP_SYSLOG decides.
        Some(2..) => names
            .limited(format!(
                "{found}: kernel functions have no names in reports"
            ))
            .fix(Fix::ShowKernelAddresses),
        _ if facts.held.contains(CapabilitySet::SYSLOG) => names
            .limited(format!(
                "{found}, and yet /proc/kallsyms shows no addresses"
            ))
            .fix(Fix::KernelWithKallsyms),
        _ => names.found(format!("{found}: CAP_SYSLOG decides")),
    };
    let paranoid = new(
        "perf-event-paranoid",
        "kernel.perf_event_paranoid",
        "open perf events",
    )
    .found(format!(
        "{}: with CAP_PERFMON it does not matter",
        value(facts.perf_event_paranoid)
    ));
    let scope = new(
        "ptrace-scope",
        "kernel.yama.ptrace_scope",
        "read the memory of threads that wait already",
    );
    let traces = facts.held.contains(CapabilitySet::SYS_PTRACE);
    let scope = match facts.ptrace_scope {
        None => scope.found("no Yama in this kernel"),
        Some(value @ 3..) => scope
            .limited(format!(
                "{value}: waits from before the recording have no stacks"
            ))
            .fix(Fix::LowerPtraceScope),
        Some(value @ 1..) if !traces => scope
            .limited(format!(
                "{value}: waits from before the recording have no stacks"
            ))
            .fix(Fix::Give("CAP_SYS_PTRACE")),
        Some(value) => scope.found(value.to_string()),
    };
    vec![names, paranoid, scope]
}

#[cfg(test)]
#[path = "requirements_tests.rs"]
mod tests;
