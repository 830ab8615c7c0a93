//! What `holdup check` found, as JSON.

use crate::recording::{Host, Tool};
use crate::report::check::{Check, CheckRefusal, Requirement};
use crate::units::Pid;
use serde::Serialize;
use std::io;

/// Version of the JSON: grows when a member goes or changes its meaning.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: &'a Tool,
    host: &'a Host,
    /// The only target, which has its requirements in the common list, too.
    target: Option<Only<'a>>,
    can_record: bool,
    exit: i32,
    requirements: Vec<&'a Requirement>,
    targets: Vec<Target<'a>>,
}

#[derive(Serialize)]
struct Only<'a> {
    pid: Pid,
    exe: Option<&'a str>,
}

#[derive(Serialize)]
struct Target<'a> {
    pid: Pid,
    exe: Option<&'a str>,
    can_record: bool,
    exit: i32,
    requirements: &'a [Requirement],
}

/// Writes JSON: one object, its members always in the same order. `exit` is the status that
/// `holdup record` would end with before it recorded anything, 0 where it would record. Members
/// are added without notice.
///
/// # Errors
/// Those of writing to `out`.
pub fn json(check: &Check, out: &mut dyn io::Write) -> io::Result<()> {
    let only = match check.targets.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    let of_only = only.iter().flat_map(|target| &target.requirements);
    let exit = |refusal: &Option<CheckRefusal>| refusal.as_ref().map_or(0, |refusal| refusal.exit);
    let document = Document {
        schema: SCHEMA,
        tool: &check.tool,
        host: &check.host,
        target: only.map(|target| Only {
            pid: target.pid,
            exe: target.exe.as_deref(),
        }),
        can_record: check.refusal.is_none(),
        exit: exit(&check.refusal),
        requirements: check.requirements.iter().chain(of_only).collect(),
        targets: check
            .targets
            .iter()
            .map(|target| Target {
                pid: target.pid,
                exe: target.exe.as_deref(),
                can_record: target.refusal.is_none(),
                exit: exit(&target.refusal),
                requirements: &target.requirements,
            })
            .collect(),
    };
    super::json::write(&document, out)
}
