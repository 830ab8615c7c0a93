//! Whether a recording passes: `--fail-if` and `--accept`.

use super::accepted::Accepted;
use super::conditions::{Condition, Gate, Violation};
use super::error::Result;
use super::progress::Progress;
use crate::report::Report;

/// What is asked of a report, with the accepted sites read.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenGate {
    conditions: Vec<Condition>,
    accepted: Accepted,
}

impl Gate {
    /// Reads what is accepted: before a recording, so that none is made in vain.
    ///
    /// # Errors
    /// Where the file of accepted sites cannot be read.
    pub(crate) fn open(&self) -> Result<OpenGate> {
        let accepted = match &self.accept {
            Some(path) => Accepted::read(path)?,
            None => Accepted::default(),
        };
        Ok(OpenGate {
            conditions: self.conditions.clone(),
            accepted,
        })
    }
}

impl OpenGate {
    /// Says which conditions hold, and what to blame. Whether none does.
    pub(crate) fn passes(mut self, report: &Report, progress: &Progress) -> bool {
        let accepted = &mut self.accepted;
        let conditions = self.conditions.iter();
        let violations: Vec<Violation> = conditions
            .filter_map(|condition| condition.check(report, accepted))
            .collect();
        for violation in &violations {
            progress.fail(&violation.to_string());
        }
        if !self.conditions.is_empty() {
            for remark in self.accepted.remarks() {
                progress.say(&format!("note: {remark}"));
            }
        }
        violations.is_empty()
    }
}
