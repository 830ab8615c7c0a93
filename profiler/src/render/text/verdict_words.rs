//! What a verdict is put into.

use super::style::WARN;
use crate::counted::counted;
use crate::render::percent;
use crate::report::{Report, Verdict};
use anstyle::Style;

/// A verdict in words.
pub(super) struct Words {
    pub(super) style: Style,
    pub(super) word: &'static str,
    pub(super) text: String,
    /// Index in [`Report::sites`](crate::report::Report::sites) of the site to name.
    pub(super) site: Option<usize>,
}

impl Words {
    pub(super) fn new(style: Style, word: &'static str, text: String) -> Words {
        Words {
            style,
            word,
            text,
            site: None,
        }
    }

    pub(super) fn with_site(self, site: Option<usize>) -> Words {
        Words { site, ..self }
    }
}

pub(super) fn cpu_bound(of: &str, share: f64) -> Words {
    let text = format!(
        "The workers{of} ran on a CPU for {} of their time and hardly ever waited. Tasks wait for \
         each other's computing: look for long polls.",
        percent(share)
    );
    Words::new(WARN, "CPU BOUND", text)
}

pub(super) fn no_runtime(threads: u64) -> Words {
    let text = format!(
        "There is no sign of tokio: neither in the code nor in the names of {}.",
        counted(threads, "thread", "threads")
    );
    Words::new(WARN, "NO RUNTIME", text)
}

pub(super) fn nothing_seen() -> Words {
    let text = "Nothing was recorded: no thread of the target was seen. Record for longer, or \
                under load.";
    Words::new(WARN, "NO DATA", text.to_owned())
}

/// What is said where [`never_moved`].
pub(super) const NEVER_MOVED: &str = " Each was in one wait from the begin of the recording to its end, \
     which came too soon to tell whether these waits end: `holdup dump` tells since when they last, and who \
     waits for whom.";

/// Of the time of a recording, in which nothing is to have moved.
const THROUGHOUT: f64 = 0.95;

/// Whether the workers that a verdict calls blocked stood still throughout, in a recording that is too
/// short for more.
pub(super) fn never_moved(report: &Report) -> bool {
    let (Verdict::Starved { runtime, .. } | Verdict::WorkersBlocked { runtime, .. }) =
        &report.verdict
    else {
        return false;
    };
    let mut runtimes = report.runtimes.iter();
    let runtime = runtimes.find(|of| of.id == *runtime);
    runtime.is_some_and(|of| of.wedged_ns.share_of(report.duration_ns) >= THROUGHOUT)
}
