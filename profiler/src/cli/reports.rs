//! The report of everything, and what a filter chooses of it.

use super::gate::OpenGate;
use super::progress::Progress;
use crate::analyze::Analyzer;
use crate::recording::{Header, Tables};
use crate::report::{Filter, Report};
use std::collections::BTreeSet;

/// Names of a kind that are told at most.
const NAMED: usize = 6;

/// What a recording gives.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    /// Of everything: what `--fail-if` looks at.
    whole: Report,
    /// What was chosen of it.
    chosen: Option<Report>,
}

impl Reports {
    /// One of which nothing was chosen.
    pub(crate) fn of(whole: Report) -> Reports {
        Reports {
            whole,
            chosen: None,
        }
    }

    /// The reports of what `analyzer` has, for which [`Analyzer::keep_for`] was called.
    pub(crate) fn made(
        analyzer: &Analyzer,
        header: &Header,
        tables: &Tables,
        filter: &Filter,
    ) -> Reports {
        if filter.is_all() {
            return Reports::of(analyzer.report(header, tables));
        }
        let (whole, chosen) = analyzer.filtered(header, tables, filter);
        Reports {
            whole,
            chosen: Some(chosen),
        }
    }

    /// The report of everything.
    pub(crate) fn whole(&self) -> &Report {
        &self.whole
    }

    /// The report of everything.
    pub(crate) fn into_whole(self) -> Report {
        self.whole
    }

    /// What is shown.
    pub(crate) fn shown(&self) -> &Report {
        self.chosen.as_ref().unwrap_or(&self.whole)
    }

    /// What is shown.
    pub(crate) fn into_shown(self) -> Report {
        self.chosen.unwrap_or(self.whole)
    }

    /// Changes both.
    pub(crate) fn each(&mut self, change: impl Fn(&mut Report)) {
        change(&mut self.whole);
        self.chosen.iter_mut().for_each(change);
    }

    /// Asks what `--fail-if` asks: of everything, whatever is shown.
    pub(crate) fn ask(&mut self, gate: &mut OpenGate) {
        let checked = gate.check(&self.whole);
        self.each(|report| report.conditions.clone_from(&checked));
    }

    /// Says that nothing was chosen, where that is so, and what there is to choose from.
    pub(crate) fn tell(&self, progress: &Progress) {
        let Some(chosen) = self.chosen.as_ref().filter(|chosen| chosen.lists_nothing()) else {
            return;
        };
        let Some(filter) = &chosen.filter else { return };
        progress.say(&format!("nothing in the recording fits: {filter}"));
        for (kind, names) in there_is(&self.whole, filter) {
            progress.say(&format!("{kind}: {names}"));
        }
    }
}

/// What there is of the kinds that were chosen by.
fn there_is(report: &Report, filter: &Filter) -> Vec<(&'static str, String)> {
    let runtimes = || {
        let runtimes = report.runtimes.iter();
        runtimes.map(|runtime| format!("{} ({})", runtime.id, runtime.thread_name))
    };
    let threads = || report.threads.iter().map(|thread| thread.name.clone());
    let tasks = || report.tasks.iter().map(|task| task.function.to_string());
    let sites = || report.sites.iter().map(|site| site.function.to_string());
    let causes = || {
        let sites = report.sites.iter().flat_map(|site| &site.causes);
        sites.map(|of| of.cause.to_string())
    };
    [
        ("runtimes", !filter.runtime.is_empty(), first(runtimes())),
        ("threads", !filter.thread.is_empty(), first(threads())),
        ("tasks that waited", !filter.task.is_empty(), first(tasks())),
        ("sites", !filter.site.is_empty(), first(sites())),
        ("causes", !filter.cause.is_empty(), first(causes())),
    ]
    .into_iter()
    .filter(|(_, is_asked, _)| *is_asked)
    .map(|(kind, _, names)| (kind, names))
    .collect()
}

/// The first few, each once.
fn first(names: impl Iterator<Item = String>) -> String {
    let mut seen = BTreeSet::new();
    let mut all: Vec<String> = names.filter(|name| seen.insert(name.clone())).collect();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    match (all.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => all.join(", "),
        (false, more) => format!("{}, and {more} more", all.join(", ")),
    }
}
