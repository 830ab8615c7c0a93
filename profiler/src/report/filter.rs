//! Which sites, waits, polls and threads a report is to tell of.

use crate::cause::Cause;
use crate::units::{Nanos, Tid};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;

/// A choice of what is listed. Of several texts for one thing any has to fit, and each thing that is
/// chosen by has to fit. Texts are parts of names, in which `*` stands for anything.
///
/// Verdicts, processes, times of workers, harm and losses are of the whole recording all the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Filter {
    /// Runtimes, by id or by the names of their threads.
    pub runtime: Vec<String>,
    /// Threads, by id or by name.
    pub thread: Vec<String>,
    /// Tasks, by their outermost async function.
    pub task: Vec<String>,
    /// Sites, by function, or by `file:line`.
    pub site: Vec<String>,
    /// Causes of waits. What ran has none.
    pub cause: Vec<Cause>,
    /// Sites no wait of which was as long as this are left out, and shorter waits, calls and polls; 0
    /// leaves none out.
    pub min_ns: Nanos,
}

impl Filter {
    /// Whether it chooses everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether it asks whose a wait is.
    #[must_use]
    pub fn is_of_threads(&self) -> bool {
        !self.runtime.is_empty() || !self.thread.is_empty()
    }

    /// Whether it asks where or why a thread waited.
    #[must_use]
    pub fn is_of_places(&self) -> bool {
        !self.task.is_empty() || !self.site.is_empty() || !self.cause.is_empty()
    }

    /// Whether a runtime is chosen. A thread that works for none is in none that was asked for.
    #[must_use]
    pub fn takes_runtime(&self, runtime: Option<(&str, &str)>) -> bool {
        self.runtime.is_empty()
            || runtime.is_some_and(|(id, threads)| {
                let mut texts = self.runtime.iter();
                // The id of one runtime is the beginning of another's.
                texts.any(|text| text == id || (!is_id(text) && fits(text, threads)))
            })
    }

    /// Whether a thread is chosen.
    #[must_use]
    pub fn takes_thread(&self, tid: Tid, name: &str) -> bool {
        any(&self.thread, |text| match text.parse::<u32>() {
            Ok(number) => number == tid.0,
            Err(_) => fits(text, name),
        })
    }

    /// Whether a task is chosen.
    #[must_use]
    pub fn takes_task(&self, function: Option<&str>) -> bool {
        any(&self.task, |text| {
            function.is_some_and(|function| fits(text, function))
        })
    }

    /// Whether a site is chosen.
    #[must_use]
    pub fn takes_site(&self, function: &str, place: Option<(&str, u32)>) -> bool {
        any(&self.site, |text| {
            let at_line = |(file, line): (&str, u32)| fits_end(text, &format!("{file}:{line}"));
            fits(text, function) || place.is_some_and(at_line)
        })
    }

    /// Whether a cause is chosen.
    #[must_use]
    pub fn takes_cause(&self, cause: Option<Cause>) -> bool {
        self.cause.is_empty() || cause.is_some_and(|cause| self.cause.contains(&cause))
    }
}

impl fmt::Display for Filter {
    /// `runtime rt1, cause lock or sleep, from 10ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causes: Vec<String> = self.cause.iter().map(ToString::to_string).collect();
        let kinds = [
            ("runtime", &self.runtime),
            ("thread", &self.thread),
            ("task", &self.task),
            ("site", &self.site),
            ("cause", &causes),
        ];
        let mut parts: Vec<String> = kinds
            .into_iter()
            .filter(|(_, texts)| !texts.is_empty())
            .map(|(kind, texts)| format!("{kind} {}", texts.join(" or ")))
            .collect();
        if self.min_ns > Nanos::ZERO {
            parts.push(format!("at least {}", in_units(self.min_ns)));
        }
        f.write_str(&parts.join(", "))
    }
}

/// A time as an option takes it: `1500us`.
fn in_units(time: Nanos) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us")];
    let unit = units
        .into_iter()
        .find(|(unit, _)| time.0.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "ns"));
    format!("{}{name}", time.0 / unit)
}

/// Nothing to choose by is fitted by all.
fn any(texts: &[String], fits: impl Fn(&str) -> bool) -> bool {
    texts.is_empty() || texts.iter().any(|text| fits(text))
}

/// `rt0`, as reports name runtimes.
fn is_id(text: &str) -> bool {
    let number = text.strip_prefix("rt");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether the parts of `pattern` between `*` are in `name`, one after another.
#[must_use]
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut rest = name;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = rest.get(at + part.len()..).unwrap_or_default();
            true
        }
        None => false,
    })
}

/// As [`fits`], with the last part at the end: line 8 is not line 88.
fn fits_end(pattern: &str, name: &str) -> bool {
    let (head, last) = match pattern.rsplit_once('*') {
        Some((head, last)) => (Some(head), last),
        None => (None, pattern),
    };
    let Some(rest) = name.strip_suffix(last) else {
        return false;
    };
    head.is_none_or(|head| fits(head, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn patterns_are_parts_of_names() {
        assert!(fits("config::load", "app::config::load"));
        assert!(fits("app::*::load", "app::config::load"));
        assert!(!fits("load*config", "app::config::load"));
        assert!(fits("", "anything"));
    }

    #[test]
    fn nothing_asked_is_everything() {
        let filter = Filter::default();
        assert!(filter.is_all());
        assert!(filter.takes_runtime(None) && filter.takes_thread(Tid(1), "a"));
        assert!(
            filter.takes_task(None) && filter.takes_site("a", None) && filter.takes_cause(None)
        );
    }

    #[test]
    fn runtimes_go_by_id_or_by_their_threads() {
        let filter = Filter {
            runtime: texts(&["rt1", "ingest"]),
            ..Filter::default()
        };
        assert!(filter.takes_runtime(Some(("rt1", "worker"))));
        assert!(filter.takes_runtime(Some(("rt3", "ingest-0"))));
        assert!(!filter.takes_runtime(Some(("rt10", "worker-rt1"))));
        assert!(!filter.takes_runtime(None));
    }

    #[test]
    fn threads_go_by_number_or_by_name() {
        let filter = Filter {
            thread: texts(&["42", "tokio*worker"]),
            ..Filter::default()
        };
        assert!(filter.takes_thread(Tid(42), "main"));
        assert!(filter.takes_thread(Tid(1), "tokio-rt-worker"));
        assert!(!filter.takes_thread(Tid(421), "main-42"));
    }

    #[test]
    fn sites_go_by_function_or_by_line() {
        let filter = Filter {
            site: texts(&["reserve", "ledger.rs:8", "src/*:77"]),
            ..Filter::default()
        };
        assert!(filter.takes_site("app::reserve", None));
        assert!(filter.takes_site("app::x", Some(("src/ledger.rs", 8))));
        assert!(filter.takes_site("app::x", Some(("src/a.rs", 77))));
        assert!(!filter.takes_site("app::x", Some(("src/ledger.rs", 88))));
        assert!(!filter.takes_site("app::x", Some(("lib/a.rs", 77))));
    }

    #[test]
    fn it_is_told_in_the_words_of_its_options() {
        let filter = Filter {
            site: texts(&["a", "b"]),
            cause: vec![Cause::FileIo],
            min_ns: Nanos(1_500_000),
            ..Filter::default()
        };
        assert_eq!(
            filter.to_string(),
            "site a or b, cause file-io, at least 1500us"
        );
        assert!(filter.is_of_places() && !filter.is_of_threads());
    }
}
