//! What `holdup check` found, as JSON.

use crate::recording::{Host, Tool};
use crate::report::check::{Check, CheckedTarget, Requirement};
use serde::Serialize;
use std::io;

/// Version of the JSON: grows when a member goes or changes its meaning.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: &'a Tool,
    host: &'a Host,
    target: Option<&'a CheckedTarget>,
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
    let document = Document {
        schema: SCHEMA,
        tool: &check.tool,
        host: &check.host,
        target: check.target.as_ref(),
        can_record: check.refusal.is_none(),
        exit: check.refusal.as_ref().map_or(0, |refusal| refusal.exit),
        requirements: &check.requirements,
    };
    super::json::write(&document, out)
}
