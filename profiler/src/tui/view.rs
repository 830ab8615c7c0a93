//! What is shown.

use crate::report::{Lane, Report, Site, Trend};
use crate::runtime::State;
use crate::units::{Nanos, Pid};
use std::sync::Arc;

/// Everything that a screen shows of a recording, at one instant of it. Texts are raw: whoever draws
/// them escapes them.
#[derive(Clone, Debug)]
pub struct View {
    /// Of the last seconds, or of the whole: its runtimes and sites.
    pub report: Arc<Report>,
    /// Of each of the report's runtimes; none where it is not known.
    pub trends: Vec<Trend>,
    /// The workers, by process and thread.
    pub lanes: Vec<Lane>,
    /// Since the recording began.
    pub elapsed: Nanos,
    /// How the last target ended (`exited`), where there is none any more.
    pub ended: Option<String>,
}

/// What tells a site from others, also in another report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteId {
    pid: Pid,
    function: Arc<str>,
    line: Option<u32>,
    wait: String,
    state: State,
}

impl SiteId {
    /// That of a site.
    #[must_use]
    pub fn of(site: &Site) -> SiteId {
        SiteId {
            pid: site.pid,
            function: Arc::clone(&site.function),
            line: site.line,
            wait: site.wait.clone(),
            state: site.state,
        }
    }

    /// Whether `site` has it.
    #[must_use]
    pub fn is_of(&self, site: &Site) -> bool {
        self.pid == site.pid
            && self.state == site.state
            && self.line == site.line
            && self.function == site.function
            && self.wait == site.wait
    }
}

/// Whether waits in a state hold anything up, or may: what is allowed is not listed.
pub(super) const fn is_listed(state: State) -> bool {
    matches!(state, State::Blocked | State::Runtime | State::Unknown)
}
