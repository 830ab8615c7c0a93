//! What `holdup check` found: as text and, for other programs, as JSON.

use super::Options;
use crate::host::{Area, Requirement, first_refusal};
use crate::model::{Host, Tool};
use crate::units::Pid;
use serde::Serialize;
use std::io;

pub use super::text::render_check as text;

/// Version of the JSON: grows when a member goes or changes its meaning.
const SCHEMA: u32 = 1;

/// What was found.
#[derive(Clone, Debug)]
pub struct Check {
    /// The program that looked.
    pub tool: Tool,
    /// The machine.
    pub host: Host,
    /// The process that was looked at, if one was asked for.
    pub target: Option<CheckedTarget>,
    /// Every requirement, by area.
    pub requirements: Vec<Requirement>,
}

/// The process that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedTarget {
    /// Its id.
    pub pid: Pid,
    /// Path of its executable, raw; none where that is not known.
    pub exe: Option<String>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: &'a Tool,
    host: &'a Host,
    target: Option<&'a CheckedTarget>,
    can_record: bool,
    exit: i32,
    requirements: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    area: Area,
    name: &'a str,
    state: &'a str,
    purpose: &'a str,
    found: &'a str,
    remedy: Option<&'a str>,
}

/// Writes JSON: one object, its members always in the same order. `exit` is the status that
/// `holdup record` would end with before it recorded anything, 0 where it would record. Members
/// are added without notice.
///
/// # Errors
/// Those of writing to `out`.
pub fn json(check: &Check, _: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let refusal = first_refusal(&check.requirements);
    let document = Document {
        schema: SCHEMA,
        tool: &check.tool,
        host: &check.host,
        target: check.target.as_ref(),
        can_record: refusal.is_none(),
        exit: refusal.map_or(0, |error| error.exit_status().code()),
        requirements: check.requirements.iter().map(Entry::of).collect(),
    };
    super::json::write(&document, out)
}

impl Entry<'_> {
    fn of(requirement: &Requirement) -> Entry<'_> {
        // Member by member: a new one must not be forgotten here.
        let Requirement {
            id,
            area,
            name,
            purpose,
            state,
            found,
            remedy,
        } = requirement;
        Entry {
            id,
            area: *area,
            name,
            state: state.word(),
            purpose,
            found,
            remedy: remedy.as_deref(),
        }
    }
}
