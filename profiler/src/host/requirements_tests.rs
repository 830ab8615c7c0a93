use super::super::btf::tests::{NEWER_ACCOUNTING, kernel_image};
use super::super::requirement::{Refused, State, first_refusal};
use super::*;
use CapabilitySet as C;

/// A machine where everything is as it should be.
fn good() -> HostFacts {
    HostFacts {
        machine: "x86_64",
        held: C::all(),
        pid_ns: INIT_PID_NS.into(),
        user_ns: INIT_USER_NS.into(),
        lockdown: "none [integrity] confidentiality\n".into(),
        btf: KernelBtf::parse(kernel_image(&[])),
        ring_buffer: Some(Ok(true)),
        seccomp: false,
        memlock_unlimited: false,
        kernel_names: true,
        uprobes: true,
        kptr_restrict: Some(0),
        perf_event_paranoid: Some(2),
        ptrace_scope: None,
    }
}

/// The ids of all that are not met in full.
fn unmet(facts: &HostFacts) -> Vec<(&'static str, &'static str)> {
    requirements(facts)
        .iter()
        .filter(|requirement| requirement.state != State::Ok)
        .map(|requirement| (requirement.id, requirement.state.word()))
        .collect()
}

fn refusal(facts: &HostFacts) -> Refused {
    first_refusal(&requirements(facts)).expect("refused")
}

#[test]
fn nothing_is_wrong_with_a_good_machine() {
    assert_eq!(unmet(&good()), []);
    assert!(first_refusal(&requirements(&good())).is_none());
}

#[test]
fn ids_are_unique_and_what_is_not_met_says_why_or_what_to_do() {
    let nothing = HostFacts {
        machine: "riscv64",
        held: C::empty(),
        pid_ns: "pid:[1]".into(),
        user_ns: "user:[1]".into(),
        lockdown: "none integrity [confidentiality]\n".into(),
        btf: Err(BtfError::Read(io::ErrorKind::NotFound.into())),
        ring_buffer: None,
        seccomp: true,
        memlock_unlimited: false,
        kernel_names: false,
        uprobes: false,
        kptr_restrict: Some(2),
        perf_event_paranoid: Some(4),
        ptrace_scope: Some(3),
    };
    let list = requirements(&nothing);
    let mut ids: Vec<_> = list.iter().map(|requirement| requirement.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), list.len());
    for requirement in &list {
        match &requirement.state {
            State::Ok => assert_eq!(requirement.fix, None, "{requirement:?}"),
            State::Limited => assert!(requirement.fix.is_some(), "{requirement:?}"),
            State::Missing(_) => {}
            State::Unknown => assert!(!requirement.found.is_empty(), "{requirement:?}"),
        }
    }
    let sorted = list.is_sorted_by_key(|requirement| requirement.area);
    assert!(sorted, "one area after the other");
}

#[test]
fn capabilities_decide() {
    let with = |held| HostFacts { held, ..good() };
    for (held, missing) in [
        (C::SYS_ADMIN, None),
        (C::BPF | C::PERFMON, None),
        (C::BPF, Some("CAP_PERFMON missing")),
        (C::SYS_PTRACE, Some("CAP_BPF and CAP_PERFMON missing")),
    ] {
        match (first_refusal(&requirements(&with(held))), missing) {
            (None, None) => {}
            (Some(error), Some(text)) => {
                assert!(error.message.ends_with(text), "{error:?}");
                assert_eq!(error.kind, RefusalKind::Permission);
                assert_eq!(error.fix, None, "the command line knows better");
            }
            (got, _) => panic!("{held:?}: {got:?}"),
        }
    }
    assert_eq!(
        unmet(&with(C::BPF | C::PERFMON)),
        [
            ("cap-sys-ptrace", "limited"),
            ("cap-dac-read-search", "limited"),
            ("cap-checkpoint-restore", "limited"),
        ]
    );
    let docker = C::BPF | C::PERFMON | C::SYS_PTRACE | C::DAC_OVERRIDE;
    assert_eq!(
        unmet(&with(docker)),
        [("cap-checkpoint-restore", "limited")]
    );
}

#[test]
fn namespaces_and_lockdown_are_told_apart() {
    let kind = |facts: HostFacts| refusal(&facts).kind;
    let inside = "user:[1]".to_owned();
    assert_eq!(
        kind(HostFacts {
            user_ns: inside,
            ..good()
        }),
        RefusalKind::Permission
    );
    let inside = "pid:[1]".to_owned();
    assert_eq!(
        kind(HostFacts {
            pid_ns: inside,
            ..good()
        }),
        RefusalKind::Permission
    );
    let lockdown = "none integrity [confidentiality]\n".to_owned();
    assert_eq!(kind(HostFacts { lockdown, ..good() }), RefusalKind::Kernel);
    let machine = "aarch64";
    assert_eq!(kind(HostFacts { machine, ..good() }), RefusalKind::Kernel);

    let blind = HostFacts {
        pid_ns: String::new(),
        user_ns: String::new(),
        lockdown: String::new(),
        ..good()
    };
    let unknown = [("user-namespace", "unknown"), ("pid-namespace", "unknown")];
    assert_eq!(unmet(&blind), unknown, "no /proc: nothing is known");
}

#[test]
fn every_part_of_the_kernel_is_missed_by_itself() {
    for (lacking, id) in [
        ("nvcsw", "task-struct"),
        ("stack", "task-struct"),
        ("__state", "task-struct"),
        ("BPF_FUNC_ringbuf_output", "ring-buffer-output"),
        ("bpf_iter_task", "task-iterator"),
        ("sched_switch", "tp-sched-switch"),
        ("sched_waking", "tp-sched-waking"),
        ("sched_process_fork", "tp-sched-process-fork"),
        ("sched_process_exec", "tp-sched-process-exec"),
    ] {
        let btf = KernelBtf::parse(kernel_image(&[lacking]));
        assert_eq!(
            unmet(&HostFacts { btf, ..good() }),
            [(id, "missing")],
            "{lacking}"
        );
    }
    let btf = KernelBtf::parse(kernel_image(&["BPF_FUNC_ringbuf_output", "bpf_iter_task"]));
    let error = refusal(&HostFacts { btf, ..good() });
    assert_eq!(
        error.message,
        "the kernel lacks the ring buffer, Linux 5.8; the task iterator, Linux 5.8"
    );
    assert_eq!(error.kind, RefusalKind::Kernel);
    assert_eq!(error.fix, Some(Fix::NewerKernel));
}

#[test]
fn what_older_kernels_do_otherwise_is_said_and_refuses_nothing() {
    let btf = KernelBtf::parse(kernel_image(&["BPF_FUNC_task_pt_regs"]));
    let facts = HostFacts { btf, ..good() };
    assert_eq!(unmet(&facts), []);
    let list = requirements(&facts);
    let registers = list.iter().find(|one| one.id == "bpf-task-pt-regs");
    assert!(registers.is_some_and(|one| one.found.contains("kernel stacks")));
}

#[test]
fn what_only_some_options_need_is_said_and_refuses_nothing() {
    let found = |facts: &HostFacts, id: &str| {
        assert_eq!(unmet(facts), []);
        let list = requirements(facts);
        let one = list.into_iter().find(|one| one.id == id).expect("listed");
        one.found
    };
    for lacking in ["sys_enter", "sys_exit"] {
        let btf = KernelBtf::parse(kernel_image(&[lacking]));
        let facts = HostFacts { btf, ..good() };
        assert!(found(&facts, "tp-sys-enter").contains("--syscalls"));
    }
    assert_eq!(found(&good(), "tp-sys-enter"), "");
    let uprobes = false;
    let facts = HostFacts { uprobes, ..good() };
    assert!(found(&facts, "uprobes").contains("--panics"));
    assert_eq!(found(&good(), "uprobes"), "");
}

#[test]
fn locked_memory_matters_where_the_kernel_counts_it() {
    let charging = || HostFacts {
        btf: KernelBtf::parse(kernel_image(&[NEWER_ACCOUNTING])),
        ..good()
    };
    assert_eq!(unmet(&charging()), []);
    let held = C::all() - C::SYS_RESOURCE;
    let error = refusal(&HostFacts { held, ..charging() });
    assert_eq!(error.kind, RefusalKind::Permission);
    assert!(error.message.contains("CAP_SYS_RESOURCE"), "{error:?}");
    let unlimited = HostFacts {
        held,
        memlock_unlimited: true,
        ..charging()
    };
    assert_eq!(unmet(&unlimited), []);
    assert_eq!(unmet(&HostFacts { held, ..good() }), []);
}

#[test]
fn without_types_nothing_is_said_of_what_they_would_tell() {
    let btf = Err(BtfError::Read(io::ErrorKind::NotFound.into()));
    let facts = HostFacts { btf, ..good() };
    let error = refusal(&facts);
    assert_eq!(error.kind, RefusalKind::Kernel);
    assert_eq!(error.fix, Some(Fix::KernelWithBtf));
    let unmet = unmet(&facts);
    assert_eq!(unmet.first(), Some(&("btf", "missing")));
    assert!(unmet.len() > 5 && unmet.iter().skip(1).all(|(_, state)| *state == "unknown"));

    let malformed = HostFacts {
        btf: Err(BtfError::Malformed("no BTF magic")),
        ..good()
    };
    assert!(
        refusal(&malformed)
            .message
            .ends_with("is malformed: no BTF magic")
    );
}

#[test]
fn what_the_system_call_says_counts() {
    let with = |made| HostFacts {
        ring_buffer: Some(made),
        ..good()
    };
    let error = |errno| with(Err(io::Error::from_raw_os_error(errno)));
    let filtered = |errno| HostFacts {
        seccomp: true,
        ..error(errno)
    };
    for (facts, kind, text) in [
        (
            with(Ok(false)),
            RefusalKind::Kernel,
            "the kernel lacks the ring buffer",
        ),
        (
            error(libc::ENOSYS),
            RefusalKind::Kernel,
            "built without BPF: Function not",
        ),
        (
            error(libc::EPERM),
            RefusalKind::Permission,
            "a security module refuses",
        ),
        (
            filtered(libc::EPERM),
            RefusalKind::Permission,
            "a seccomp filter refuses",
        ),
        (
            filtered(libc::ENOSYS),
            RefusalKind::Permission,
            "a seccomp filter refuses",
        ),
        (
            error(libc::ENOMEM),
            RefusalKind::Other,
            "cannot make a BPF ring buffer: ",
        ),
    ] {
        let refusal = refusal(&facts);
        assert_eq!(refusal.kind, kind);
        assert!(refusal.message.contains(text), "{refusal:?}");
    }
    assert_eq!(refusal(&filtered(libc::EPERM)).fix, Some(Fix::NoSeccomp));
    assert_eq!(refusal(&error(libc::EPERM)).fix, Some(Fix::LetBpfPass));
}

#[test]
fn settings_limit_and_never_refuse() {
    let hidden = |kptr_restrict, held| HostFacts {
        memlock_unlimited: false,
        kernel_names: false,
        kptr_restrict: Some(kptr_restrict),
        held,
        ..good()
    };
    assert_eq!(unmet(&hidden(2, C::all())), [("kptr-restrict", "limited")]);
    assert_eq!(unmet(&hidden(0, C::all())), [("kptr-restrict", "limited")]);
    assert_eq!(
        unmet(&hidden(1, C::all() - C::SYSLOG)),
        [("cap-syslog", "limited")]
    );
    let shown = HostFacts {
        held: C::all() - C::SYSLOG,
        ..good()
    };
    assert_eq!(unmet(&shown), []);

    let scope = |ptrace_scope, held| HostFacts {
        ptrace_scope: Some(ptrace_scope),
        held,
        ..good()
    };
    assert_eq!(unmet(&scope(1, C::all())), []);
    assert_eq!(unmet(&scope(3, C::all())), [("ptrace-scope", "limited")]);
    let alone = unmet(&scope(1, C::all() - C::SYS_PTRACE));
    assert_eq!(
        alone,
        [("cap-sys-ptrace", "limited"), ("ptrace-scope", "limited")]
    );
}
