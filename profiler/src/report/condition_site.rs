//! What of a site a condition tells.

use super::{ConditionSite, Site};

impl ConditionSite {
    /// What is told of a site.
    #[must_use]
    pub fn of(site: &Site) -> ConditionSite {
        ConditionSite {
            function: site.function.clone(),
            file: site.file.clone(),
            line: site.line,
            pid: site.pid,
            cause: site.cause,
            wait: site.wait.clone(),
            waits: site.waits,
            total_ns: site.total_ns,
            max_ns: site.max_ns,
            advice: site.advice,
        }
    }
}
