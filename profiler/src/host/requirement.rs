//! One thing that a recording needs, and whether it is there.

use crate::error::{Error, Exit};
use serde::Serialize;

/// What a requirement is about; also the order in which they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// What we may do.
    Permission,
    /// What the kernel can do.
    Kernel,
    /// How the kernel is set up.
    Setting,
    /// The process that is to be recorded.
    Target,
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

/// Why nothing can be recorded. Refusals of the first two kinds are told together: who lacks one
/// capability mostly lacks the next one too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A capability by its name, as `CAP_BPF`.
    Capability(&'static str),
    /// A part of the kernel, with the version that brought it.
    Kernel(&'static str),
    /// Anything else.
    Other {
        /// How the program ends.
        exit: Exit,
        /// What fails and why, in one line without a full stop.
        message: String,
    },
}

impl Refusal {
    /// A refusal in the words of an error that says it all.
    #[must_use]
    pub fn from_error(error: &Error) -> Refusal {
        Refusal::Other {
            exit: error.exit_status(),
            message: error.chain(),
        }
    }

    /// How the program ends for it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Refusal::Capability(_) => Exit::Permission,
            Refusal::Kernel(_) => Exit::Unsupported,
            Refusal::Other { exit, .. } => *exit,
        }
    }
}

/// One line of `holdup check`.
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
    /// What was found, raw: it may quote what the target chose. Empty where the state says it
    /// all.
    pub found: String,
    /// What to do about it, where it is not met in full: a command or a change.
    pub remedy: Option<String>,
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
            remedy: None,
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

    /// With what to do about it.
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Requirement {
        self.remedy = Some(remedy.into());
        self
    }
}

/// The error that a recording ends with before it begins: the first refusal of the list, with
/// all others of its kind. None where recording is possible.
#[must_use]
pub fn first_refusal(requirements: &[Requirement]) -> Option<Error> {
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
    let error = Error::new(message).exit(refusal.exit());
    Some(match &first.remedy {
        Some(remedy) => error.hint(remedy.clone()),
        None => error,
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
            requirement("b").limited("half").remedy("more"),
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
                .remedy("sudo"),
            requirement("c")
                .missing(Refusal::Kernel("c, Linux 2"))
                .remedy("newer"),
            requirement("d").missing(Refusal::Capability("CAP_D")),
        ];
        let kernel = first_refusal(&list).expect("refused");
        assert_eq!(
            kernel.to_string(),
            "the kernel lacks a, Linux 1; c, Linux 2"
        );
        assert_eq!(kernel.exit_status(), Exit::Unsupported);
        assert_eq!(kernel.suggestion(), None, "the first one's remedy counts");
        let capability = first_refusal(&list[1..]).expect("refused");
        assert_eq!(
            capability.to_string(),
            "not permitted to load BPF programs: CAP_B and CAP_D missing"
        );
        assert_eq!(capability.exit_status(), Exit::Permission);
        assert_eq!(capability.suggestion(), Some("sudo"));
    }

    #[test]
    fn an_error_keeps_its_words_and_its_exit() {
        let error = Error::new("no")
            .exit(Exit::NoRuntime)
            .because(Error::new("why"));
        let list = [requirement("a").missing(Refusal::from_error(&error))];
        let refused = first_refusal(&list).expect("refused");
        assert_eq!(refused.chain(), "no: why");
        assert_eq!(refused.exit_status(), Exit::NoRuntime);
    }
}
