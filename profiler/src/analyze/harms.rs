//! Harm and blame of sites and tasks, in the words of the report.

use super::blame::{End, SiteBlame};
use super::causes::Causes;
use super::concurrency::Concurrent;
use super::labels::{Label, Labelled, Labels};
use super::runtimes::Runtimes;
use super::site_key::SiteKey;
use super::whole::Whole;
use crate::recording::ProcessId;
use crate::report::{BLAME_CHAINS, Blame, BlameChain, BlameEnd, BlameLink, Harm};
use crate::units::Nanos;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// Of all sites and tasks that have any.
#[derive(Default)]
pub(super) struct Harms {
    sites: HashMap<SiteKey, Vec<Harm>>,
    /// By process, function and runtime.
    tasks: HashMap<(ProcessId, Arc<str>, String), Harm>,
    blames: HashMap<SiteKey, Blame>,
}

impl Harms {
    /// What the sweeps found.
    pub(super) fn of(
        whole: &Whole<'_>,
        concurrent: &Concurrent,
        runtimes: &Runtimes,
        causes: &Causes,
    ) -> Harms {
        let mut harms = Harms::default();
        for (track, report) in runtimes.tracks() {
            let workers = usize::try_from(report.workers).unwrap_or(usize::MAX);
            for found in concurrent.of(track).harm(workers) {
                let harm = Harm {
                    runtime: report.id.clone(),
                    starved_ns: found.harm,
                    starved_left_ns: report.starved_ns.saturating_sub(found.harm),
                    longest_left_ns: found.left,
                };
                harms.add(concurrent.labels.get(found.label), harm);
            }
        }
        let namer = Namer {
            whole,
            labels: &concurrent.labels,
            causes,
        };
        for (label, blame) in concurrent.blames.sites() {
            if let Some(Labelled::Site(key)) = concurrent.labels.get(label) {
                harms.blames.insert(key.clone(), namer.blame(blame));
            }
        }
        harms
    }

    fn add(&mut self, labelled: Option<&Labelled>, harm: Harm) {
        if harm.starved_ns == Nanos::ZERO {
            return;
        }
        match labelled {
            Some(Labelled::Site(key)) => self.sites.entry(key.clone()).or_default().push(harm),
            Some(Labelled::Task(process, function)) => {
                let key = (*process, function.clone(), harm.runtime.clone());
                self.tasks.insert(key, harm);
            }
            None => (),
        }
    }

    /// The harm of a site, in the order of the runtimes' harm, most first.
    pub(super) fn of_site(&self, key: &SiteKey) -> Vec<Harm> {
        let mut harms = self.sites.get(key).cloned().unwrap_or_default();
        harms.sort_by_key(|harm| Reverse(harm.starved_ns));
        harms
    }

    /// The harm of a task in one runtime.
    pub(super) fn of_task(
        &self,
        process: ProcessId,
        function: &Arc<str>,
        runtime: &str,
    ) -> Option<Harm> {
        let key = (process, function.clone(), runtime.to_owned());
        self.tasks.get(&key).cloned()
    }

    /// What was to blame for the waits of a site.
    pub(super) fn blame(&self, key: &SiteKey) -> Option<Blame> {
        self.blames.get(key).cloned()
    }
}

/// Puts chains into words.
struct Namer<'a> {
    whole: &'a Whole<'a>,
    labels: &'a Labels,
    causes: &'a Causes,
}

impl Namer<'_> {
    fn blame(&self, blame: &SiteBlame) -> Blame {
        let mut chains: Vec<BlameChain> = blame
            .chains
            .iter()
            .map(|(chain, time)| BlameChain {
                links: chain
                    .sites
                    .iter()
                    .filter_map(|site| self.link(*site))
                    .collect(),
                end: match chain.end {
                    End::Outside => BlameEnd::Outside,
                    End::Running => BlameEnd::Running,
                    End::RunQueue => BlameEnd::RunQueue,
                    End::ShortWaits => BlameEnd::ShortWaits,
                    End::Idle => BlameEnd::Idle,
                    End::Stopped => BlameEnd::Stopped,
                    End::Busy => BlameEnd::RunningOrIdle,
                    End::Cycle => BlameEnd::Cycle,
                    End::Unknown => BlameEnd::Unknown,
                },
                total_ns: *time,
            })
            .collect();
        // The sort is stable: of equals the first by its sites stays first.
        chains.sort_by_key(|chain| Reverse(chain.total_ns));
        chains.truncate(BLAME_CHAINS);
        let told: Nanos = chains.iter().map(|chain| chain.total_ns).sum();
        Blame {
            waits: blame.waits,
            total_ns: blame.time,
            chains,
            more_ns: blame.time.saturating_sub(told),
        }
    }

    fn link(&self, label: Label) -> Option<BlameLink> {
        let Labelled::Site(key) = self.labels.get(label)? else {
            return None;
        };
        Some(BlameLink {
            function: key.location.function.clone(),
            file: key.location.file.clone(),
            line: key.location.line,
            pid: self.whole.pid(key.process),
            cause: self
                .causes
                .of_stack(self.whole.tables, self.labels.example(label)?),
        })
    }
}
