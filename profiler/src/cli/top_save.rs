//! What the key s of `holdup top` writes.

use super::error::Result;
use super::output::{self, IsStdout, Output};
use super::settings::Destination;
use super::top_settings::TopSettings;
use crate::render::{self, Format, Options};
use crate::report::Report;
use crate::units::Pid;
use std::path::PathBuf;
use std::time::SystemTime;

/// The file, as often as it is wanted.
pub(super) struct Saver<'a> {
    settings: &'a TopSettings,
    pid: Pid,
    /// Opened before rights were given up, for the first time.
    first: Option<Vec<Output>>,
    /// What was written last.
    last: Option<PathBuf>,
}

impl<'a> Saver<'a> {
    /// A file that cannot be written now may be later, or nobody wants it: no error.
    pub(super) fn new(settings: &'a TopSettings, pid: Pid) -> Saver<'a> {
        let mut saver = Saver {
            settings,
            pid,
            first: None,
            last: None,
        };
        if settings.capture.is_none() {
            saver.first = saver.prepare(SystemTime::now()).ok();
        }
        saver
    }

    /// Whether the file could be given its name with the rights that this thread has now.
    pub(super) fn can_finish(&self) -> bool {
        self.first.as_deref().is_none_or(output::can_finish)
    }

    fn path(&self, time: SystemTime) -> Option<PathBuf> {
        match &self.settings.save.destination {
            Destination::File(template) => Some(template.fill(self.pid, time)),
            Destination::Stdout => None,
        }
    }

    fn prepare(&self, time: SystemTime) -> Result<Vec<Output>> {
        // What we wrote ourselves may be replaced.
        let ours = self.last.is_some() && self.last == self.path(time);
        output::prepare(
            std::slice::from_ref(&self.settings.save),
            self.pid,
            time,
            self.settings.force || ours,
            self.settings.invoker.as_ref(),
        )
    }

    /// Writes a report. Returns what to say of it.
    pub(super) fn save(&mut self, report: &Report) -> String {
        if self.settings.capture.is_some() {
            return "the capture has everything so far".to_owned();
        }
        let now = SystemTime::now();
        let outputs = match self.first.take().map_or_else(|| self.prepare(now), Ok) {
            Ok(outputs) => outputs,
            Err(error) => return error.chain(),
        };
        let options = Options {
            color: false,
            cut: false,
            ascii: false,
            width: Options::default().width,
            ..self.settings.rendering.clone()
        };
        let written = output::write_all(
            outputs,
            |format: Format, _: IsStdout, out: &mut dyn std::io::Write| {
                render::render(format, report, &options, out)
            },
        );
        if let Some(failure) = written.failures.first() {
            return failure.chain();
        }
        self.last = written.files.first().map(PathBuf::from);
        format!("saved {}", written.files.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::Analyzer;
    use crate::cli::names::Template;
    use crate::cli::settings::{OutputSpec, TargetChoice};
    use crate::collect;
    use crate::limits::Limits;
    use crate::process::Selection;
    use crate::recording::{Header, Host, Tables, Tool};
    use crate::tui::Look;
    use crate::units::{Nanos, Timestamp};
    use std::path::Path;

    fn settings(path: &Path) -> TopSettings {
        TopSettings {
            target: TargetChoice::Pids(vec![Pid(1)]),
            recording: collect::Options {
                interval: collect::INTERVAL,
                launched: false,
                follow: false,
                joining: Selection::default(),
                min_block: Nanos(100_000),
                sample_period: None,
                long_poll: Nanos(10_000_000),
                shadow_every: 0,
                calls: false,
                panics: false,
                limits: Limits::default(),
            },
            save: OutputSpec {
                destination: Destination::File(Template::parse(path.as_os_str()).expect("a name")),
                format: Format::Text,
            },
            capture: None,
            force: false,
            rendering: Options::default(),
            look: Look {
                color: false,
                ascii: true,
            },
            invoker: None,
        }
    }

    fn header() -> Header {
        Header {
            tool: Tool {
                name: "holdup".into(),
                version: "0.0.0".into(),
            },
            host: Host {
                kernel: "6.18.0".into(),
                cpus: 4,
            },
            started_at: 0.0,
            start: Timestamp(0),
            min_block: Nanos(100_000),
            long_poll: Nanos(10_000_000),
            sampling: None,
            calls_measured: false,
            panics_counted: false,
        }
    }

    #[test]
    fn what_was_saved_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("seen.txt");
        let header = header();
        let report = Analyzer::new(&header).report(&header, &Tables::default());
        let settings = settings(&path);
        let mut saver = Saver::new(&settings, Pid(1));
        assert!(!path.exists(), "nothing is written before it is wanted");
        let said = format!("saved {}", path.display());
        assert_eq!(saver.save(&report), said);
        assert_eq!(saver.save(&report), said);
        assert!(
            std::fs::read_to_string(&path)
                .expect("text")
                .contains("NO DATA")
        );
        let mut other = Saver::new(&settings, Pid(1));
        assert!(other.save(&report).contains("exists"), "another one's");
    }
}
