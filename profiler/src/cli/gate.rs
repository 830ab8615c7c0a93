//! Whether a recording passes: `--fail-if` and `--accept`.

use super::accepted::Accepted;
use super::conditions::{Condition, Gate, NO_SITE, told};
use super::error::Result;
use super::progress::Progress;
use crate::counted::counted;
use crate::report::{CheckedCondition, Report};

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
    /// Whether there are no conditions.
    pub(crate) fn asks_nothing(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Asks all of it of a report.
    pub(crate) fn check(&mut self, report: &Report) -> Vec<CheckedCondition> {
        let accepted = &mut self.accepted;
        let conditions = self.conditions.iter();
        conditions
            .map(|condition| condition.check(report, accepted))
            .collect()
    }

    /// Says which conditions hold, and what to blame. Whether none does.
    pub(crate) fn passes(&self, checked: &[CheckedCondition], progress: &Progress) -> bool {
        let holding: Vec<_> = checked.iter().filter(|condition| condition.holds).collect();
        for condition in &holding {
            progress.fail(&told(condition));
        }
        for condition in checked.iter().filter(|of| of.found.starts_with(NO_SITE)) {
            progress.say(&format!(
                "note: {}: {}",
                condition.condition, condition.found
            ));
        }
        if !self.conditions.is_empty() {
            for remark in self.accepted.remarks() {
                progress.say(&format!("note: {remark}"));
            }
        }
        holding.is_empty()
    }
}

/// Says how many of the sites to blame no annotation can show, since nobody knows their lines.
pub(crate) fn tell_placeless(checked: &[CheckedCondition], progress: &Progress) {
    let sites = checked.iter().flat_map(|condition| &condition.sites);
    let placeless = sites.filter(|site| site.line.is_none()).count() as u64;
    if placeless > 0 {
        let sites = counted(placeless, "site has", "sites have");
        progress.say(&format!(
            "{sites} no known line, which annotations need: build with debug = \"limited\""
        ));
    }
}
