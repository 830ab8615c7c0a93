//! One thing that a recording needs, and whether it is there.

/// What a requirement is about; also the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    /// What we may do.
    Permission,
    /// What the kernel can do.
    Kernel,
    /// How the kernel is set up.
    Setting,
}

/// What would help where a requirement is not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fix {
    /// A capability, as `CAP_SYSLOG`.
    Give(&'static str),
    /// The host's own user namespace.
    HostUserNamespace,
    /// The host's own pid namespace.
    HostPidNamespace,
    /// A filter of system calls that lets `bpf` pass.
    NoSeccomp,
    /// A security module that lets `bpf` pass.
    LetBpfPass,
    /// No lockdown for confidentiality.
    NoLockdown,
    /// A kernel that carries BTF, or its file in a container that hides it.
    KernelWithBtf,
    /// A newer kernel.
    NewerKernel,
    /// `kernel.kptr_restrict` below 2.
    ShowKernelAddresses,
    /// A kernel that has `/proc/kallsyms`.
    KernelWithKallsyms,
    /// `kernel.yama.ptrace_scope` below 3, which takes a boot.
    LowerPtraceScope,
}

/// How far a requirement is met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// In full.
    Ok,
    /// Not in full: recordings work and lack something, which [`Requirement::found`] names.
    Limited,
    /// Not at all: nothing can be recorded.
    Missing(Refusal),
    /// It cannot be told, since something else is missing.
    Unknown,
}

impl State {
    /// The state as one word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Limited => "limited",
            State::Missing(_) => "missing",
            State::Unknown => "unknown",
        }
    }
}

/// Why nothing can be recorded. Refusals of the first two kinds are reported together: who lacks one
/// capability mostly lacks the next one too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A capability by its name, as `CAP_BPF`.
    Capability(&'static str),
    /// A part of the kernel, with the version that brought it.
    Kernel(&'static str),
    /// Anything else.
    Other {
        /// What it is about.
        kind: RefusalKind,
        /// What fails and why, in one line without a full stop.
        message: String,
    },
}

impl Refusal {
    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> RefusalKind {
        match self {
            Refusal::Capability(_) => RefusalKind::Permission,
            Refusal::Kernel(_) => RefusalKind::Kernel,
            Refusal::Other { kind, .. } => *kind,
        }
    }
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// A right that we lack.
    Permission,
    /// A kernel that cannot do it.
    Kernel,
    /// Anything else.
    Other,
}

/// The first refusal of a list, with all others of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What it is about.
    pub kind: RefusalKind,
    /// What fails and why, in one line without a full stop.
    pub message: String,
    /// What would help.
    pub fix: Option<Fix>,
}

/// One thing that a recording needs of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// A name for programs, that stays.
    pub id: &'static str,
    /// What it is about.
    pub area: Area,
    /// A name for people.
    pub name: &'static str,
    /// What it is good for.
    pub purpose: &'static str,
    /// How far it is met.
    pub state: State,
    /// What was found. Empty where the state says it all.
    pub found: String,
    /// What would help, where it is not met in full.
    pub fix: Option<Fix>,
}

impl Requirement {
    /// One that is met in full, so far.
    pub(crate) fn new(
        area: Area,
        id: &'static str,
        name: &'static str,
        purpose: &'static str,
    ) -> Requirement {
        Requirement {
            id,
            area,
            name,
            purpose,
            state: State::Ok,
            found: String::new(),
            fix: None,
        }
    }

    /// With what was found.
    pub(crate) fn found(mut self, found: impl Into<String>) -> Requirement {
        self.found = found.into();
        self
    }

    /// Met in part: `found` says what recordings lack.
    pub(crate) fn limited(mut self, found: impl Into<String>) -> Requirement {
        self.state = State::Limited;
        self.found(found)
    }

    /// Not met.
    pub(crate) fn missing(mut self, refusal: Refusal) -> Requirement {
        match &refusal {
            Refusal::Capability(_) => {}
            Refusal::Kernel(part) => self.found = format!("the kernel lacks {part}"),
            Refusal::Other { message, .. } => self.found.clone_from(message),
        }
        self.state = State::Missing(refusal);
        self
    }

    /// Not to be told, and why.
    pub(crate) fn unknown(mut self, why: impl Into<String>) -> Requirement {
        self.state = State::Unknown;
        self.found(why)
    }

    /// With what would help.
    pub(crate) fn fix(mut self, fix: Fix) -> Requirement {
        self.fix = Some(fix);
        self
    }
}

/// Why a recording would not even begin: the first refusal of the list, with all others of its
/// kind. None where recording is possible.
#[must_use]
pub fn first_refusal(requirements: &[Requirement]) -> Option<Refused> {
    let refusals = requirements
        .iter()
        .filter_map(|requirement| match &requirement.state {
            State::Missing(refusal) => Some((requirement, refusal)),
            _ => None,
        });
    let (first, refusal) = refusals.clone().next()?;
    let message = match refusal {
        Refusal::Capability(_) => {
            let names = refusals.filter_map(|(_, refusal)| match refusal {
                Refusal::Capability(name) => Some(*name),
                _ => None,
            });
            let names: Vec<&str> = names.collect();
            format!(
                "not permitted to load BPF programs: {} missing",
                names.join(" and ")
            )
        }
        Refusal::Kernel(_) => {
            let parts = refusals.filter_map(|(_, refusal)| match refusal {
                Refusal::Kernel(part) => Some(*part),
                _ => None,
            });
            let parts: Vec<&str> = parts.collect();
            format!("the kernel lacks {}", parts.join("; "))
        }
        Refusal::Other { message, .. } => message.clone(),
    };
    Some(Refused {
        kind: refusal.kind(),
        message,
        fix: first.fix,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(id: &'static str) -> Requirement {
        Requirement::new(Area::Kernel, id, id, "tests")
    }

    #[test]
    fn what_is_met_or_limited_or_unknown_refuses_nothing() {
        let list = [
            requirement("a"),
            requirement("b").limited("half").fix(Fix::NewerKernel),
            requirement("c").unknown("b is half"),
        ];
        assert!(first_refusal(&list).is_none());
        assert!(first_refusal(&[]).is_none());
    }

    #[test]
    fn refusals_of_one_kind_are_told_together_and_others_later() {
        let list = [
            requirement("a").missing(Refusal::Kernel("a, Linux 1")),
            requirement("b")
                .missing(Refusal::Capability("CAP_B"))
                .fix(Fix::Give("CAP_B")),
            requirement("c")
                .missing(Refusal::Kernel("c, Linux 2"))
                .fix(Fix::NewerKernel),
            requirement("d").missing(Refusal::Capability("CAP_D")),
        ];
        let kernel = first_refusal(&list).expect("refused");
        assert_eq!(kernel.message, "the kernel lacks a, Linux 1; c, Linux 2");
        assert_eq!(kernel.kind, RefusalKind::Kernel);
        assert_eq!(kernel.fix, None, "the first one's counts");
        let capability = first_refusal(&list[1..]).expect("refused");
        assert_eq!(
            capability.message,
            "not permitted to load BPF programs: CAP_B and CAP_D missing"
        );
        assert_eq!(capability.kind, RefusalKind::Permission);
        assert_eq!(capability.fix, Some(Fix::Give("CAP_B")));
    }
}
