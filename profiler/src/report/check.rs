//! What `holdup check` found: data only.

use crate::recording::{Host, Tool};
use crate::units::Pid;
use serde::Serialize;

/// Everything that `holdup check` says.
#[derive(Clone, Debug)]
pub struct Check {
    /// The program that looked.
    pub tool: Tool,
    /// The machine.
    pub host: Host,
    /// The processes that were looked at, if any were asked for.
    pub targets: Vec<CheckedTarget>,
    /// Why nothing can be recorded; none where it can.
    pub refusal: Option<CheckRefusal>,
    /// Every requirement of the machine, by area.
    pub requirements: Vec<Requirement>,
}

/// A process that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedTarget {
    /// Its id.
    pub pid: Pid,
    /// Path of its executable, raw; none where that is not known.
    pub exe: Option<String>,
    /// Why it cannot be recorded; none where it can, as far as it is concerned.
    pub refusal: Option<CheckRefusal>,
    /// Every requirement of it.
    pub requirements: Vec<Requirement>,
}

/// Why nothing can be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRefusal {
    /// The exit status that `holdup record` would end with.
    pub exit: i32,
    /// What it would say, raw, in one line.
    pub message: String,
}

/// What a requirement is about; also the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckArea {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// In full.
    Ok,
    /// Not in full: recordings work and lack something, which [`Requirement::found`] names.
    Limited,
    /// Not at all: nothing can be recorded.
    Missing,
    /// It cannot be told, since something else is missing.
    Unknown,
}

impl CheckState {
    /// The state as one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            CheckState::Ok => "ok",
            CheckState::Limited => "limited",
            CheckState::Missing => "missing",
            CheckState::Unknown => "unknown",
        }
    }
}

/// One thing that a recording needs, and whether it is there. Also one entry of the JSON, member
/// by member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// A name for programs, that stays.
    pub id: &'static str,
    /// What it is about.
    pub area: CheckArea,
    /// A name for people.
    pub name: &'static str,
    /// How far it is met.
    pub state: CheckState,
    /// What it is good for.
    pub purpose: &'static str,
    /// What was found, raw: it may quote what the target chose. Empty where the state says it
    /// all.
    pub found: String,
    /// What to do about it, where it is not met in full: a command or a change.
    pub remedy: Option<String>,
}
