//! The sites that made conditions hold, each once.

use crate::counted::counted;
use crate::render::{Options, display_name, display_path, duration};
use crate::report::{Asked, CheckedCondition, ConditionSite, Report};
use crate::runtime::{Role, State};

/// A site to be told of.
pub(super) struct Offence<'a> {
    pub(super) site: ConditionSite,
    /// The conditions that hold because of it; none where none was given.
    pub(super) conditions: Vec<&'a CheckedCondition>,
}

impl Offence<'_> {
    /// Whether it made anything hold that stops all tasks of a worker, or of all.
    pub(super) fn is_grave(&self) -> bool {
        let mut asked = self.conditions.iter().map(|condition| condition.asks);
        asked.any(|asked| asked != Asked::Blocked)
    }

    /// `app::reserve blocks its worker: lock in std::sync::Mutex::lock, 12 waits, 24.2 s, 2.00 s at the longest`.
    pub(super) fn text(&self) -> String {
        let site = &self.site;
        let waits = counted(site.waits, "wait", "waits");
        format!(
            "{} blocks its worker: {} in {}, {waits}, {} in all, {} at the longest",
            display_name(&site.function),
            site.cause.name(),
            display_name(&site.wait),
            duration(site.total_ns),
            duration(site.max_ns)
        )
    }

    /// The conditions that hold: `stall>10ms, blocked>1%`.
    pub(super) fn reasons(&self) -> Option<String> {
        let texts = self.conditions.iter().map(|of| of.condition.as_str());
        let texts: Vec<&str> = texts.collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }

    /// Its file below the folder of the sources, and its line. A file elsewhere is a library's.
    pub(super) fn place(&self, options: &Options) -> Option<(String, u32)> {
        let (file, line) = (self.site.file.as_deref()?, self.site.line?);
        let below = match (file.starts_with('/'), options.sources.as_deref()) {
            (false, _) => file,
            (true, None) => return None,
            (true, Some(root)) => {
                let rest = file.strip_prefix(root.trim_end_matches('/'))?;
                rest.strip_prefix('/')?
            }
        };
        let below = below.strip_prefix("./").unwrap_or(below);
        let climbs = below.split('/').any(|part| part == "..");
        (!climbs && !below.is_empty()).then(|| (display_path(below), line))
    }
}

/// The sites of the conditions that hold, worst first; of a recording of which nothing was asked those
/// in which workers were blocked.
pub(super) fn offences<'a>(report: &'a Report, options: &Options) -> Vec<Offence<'a>> {
    let mut all: Vec<Offence<'a>> = Vec::new();
    if report.conditions.is_empty() {
        let sites = report
            .sites
            .iter()
            .filter(|site| site.state == State::Blocked && matches!(site.role, Role::Worker(_)));
        all.extend(sites.take(options.max_sites).map(|site| Offence {
            site: ConditionSite::of(site),
            conditions: Vec::new(),
        }));
    }
    for condition in report.conditions.iter().filter(|of| of.holds) {
        for site in &condition.sites {
            match all.iter_mut().find(|offence| offence.site == *site) {
                Some(offence) => offence.conditions.push(condition),
                None => all.push(Offence {
                    site: site.clone(),
                    conditions: vec![condition],
                }),
            }
        }
    }
    all
}
