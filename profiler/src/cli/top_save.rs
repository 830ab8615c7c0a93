//! What the key s of `holdup top` writes.

use super::error::Result;
use super::output::{self, IsStdout, Output};
use super::settings::{Destination, OutputSpec};
use super::top_capture::{Place, Seen, SeenFile};
use super::top_settings::{Saving, TopSettings};
use crate::recording::Header;
use crate::render::{self, Format, Options};
use crate::report::Report;
use crate::units::Pid;
use std::path::PathBuf;
use std::time::SystemTime;

/// The files, as often as they are wanted.
pub(super) struct Saver<'a> {
    settings: &'a TopSettings,
    pid: Pid,
    capture: Capture<'a>,
    /// A report of so far, where one is wanted besides.
    report: Option<ReportFile<'a>>,
}

/// Where a capture of what was seen comes from.
enum Capture<'a> {
    /// It is written all along, to a file of this name.
    AllAlong(String),
    /// To be begun with the recording.
    Prepared(SeenFile<'a>),
    Kept(Box<Seen<'a>>),
    /// It cannot be kept.
    Refused(String),
}

/// The file of a report.
struct ReportFile<'a> {
    spec: &'a OutputSpec,
    /// Opened before rights were given up, for the first time.
    first: Option<Vec<Output>>,
    /// What was written last.
    last: Option<PathBuf>,
}

impl<'a> Saver<'a> {
    /// A file that cannot be written is no error: it may be later, or nobody wants it.
    pub(super) fn new(settings: &'a TopSettings, pid: Pid) -> Saver<'a> {
        let now = SystemTime::now();
        let (capture, report) = match &settings.saving {
            Saving::AllAlong(spec) => {
                let path = spec.path.fill(pid, now);
                (Capture::AllAlong(path.display().to_string()), None)
            }
            Saving::ByKey { capture, report } => {
                let place = Place {
                    path: capture,
                    pid,
                    force: settings.force,
                    invoker: settings.invoker.as_ref(),
                };
                let capture = match SeenFile::prepare(place) {
                    Ok(file) => Capture::Prepared(file),
                    Err(error) => Capture::Refused(error.chain()),
                };
                (capture, report.as_ref())
            }
        };
        let mut saver = Saver {
            settings,
            pid,
            capture,
            report: report.map(|spec| ReportFile {
                spec,
                first: None,
                last: None,
            }),
        };
        if let Some(file) = &mut saver.report {
            file.first = file.prepare(settings, pid, now).ok();
        }
        saver
    }

    /// Whether the files could be given their names with the rights that this thread has now.
    pub(super) fn can_finish(&self) -> bool {
        let capture = match &self.capture {
            Capture::Prepared(file) => file.can_commit(),
            Capture::AllAlong(_) | Capture::Kept(_) | Capture::Refused(_) => true,
        };
        let report = self.report.as_ref().and_then(|file| file.first.as_deref());
        capture && report.is_none_or(output::can_finish)
    }

    /// Begins to keep what is seen. Returns why nothing is kept, if so.
    pub(super) fn begin(&mut self, header: &Header) -> Option<&str> {
        let before = std::mem::replace(&mut self.capture, Capture::Refused(String::new()));
        self.capture = match before {
            Capture::Prepared(file) => match file.begin(header) {
                Ok(seen) => Capture::Kept(Box::new(seen)),
                Err(error) => Capture::Refused(error.chain()),
            },
            other => other,
        };
        match &self.capture {
            Capture::Refused(why) => Some(why),
            _ => None,
        }
    }

    /// The capture that is kept.
    pub(super) fn seen(&mut self) -> Option<&mut Seen<'a>> {
        match &mut self.capture {
            Capture::Kept(seen) => Some(seen),
            _ => None,
        }
    }

    /// Saves what was seen so far, of which `report` is a report. Returns what to say of it now.
    pub(super) fn save(&mut self, report: &Report) -> String {
        let written = match &mut self.report {
            Some(file) => file.write(self.settings, self.pid, report),
            None => Ok(Vec::new()),
        };
        let files = match written {
            Ok(files) => files,
            Err(why) => return why,
        };
        match &mut self.capture {
            Capture::AllAlong(path) => format!("{path} has everything so far"),
            Capture::Refused(why) => why.clone(),
            Capture::Prepared(_) => "nothing was seen yet".to_owned(),
            Capture::Kept(seen) => match seen.save(files) {
                Ok(()) => "saving".to_owned(),
                Err(error) => error.chain(),
            },
        }
    }
}

impl ReportFile<'_> {
    fn path(&self, pid: Pid, time: SystemTime) -> Option<PathBuf> {
        match &self.spec.destination {
            Destination::File(template) => Some(template.fill(pid, time)),
            Destination::Stdout => None,
        }
    }

    fn prepare(&self, settings: &TopSettings, pid: Pid, time: SystemTime) -> Result<Vec<Output>> {
        // What we wrote ourselves may be replaced.
        let ours = self.last.is_some() && self.last == self.path(pid, time);
        output::prepare(
            std::slice::from_ref(self.spec),
            pid,
            time,
            settings.force || ours,
            settings.invoker.as_ref(),
        )
    }

    /// Writes a report. Returns the names of what is there now, or why that failed.
    fn write(
        &mut self,
        settings: &TopSettings,
        pid: Pid,
        report: &Report,
    ) -> Result<Vec<String>, String> {
        let first = self.first.take();
        let outputs = first.map_or_else(|| self.prepare(settings, pid, SystemTime::now()), Ok);
        let outputs = outputs.map_err(|error| error.chain())?;
        let options = Options {
            color: false,
            cut: false,
            ascii: false,
            width: Options::default().width,
            ..settings.rendering.clone()
        };
        let written = output::write_all(
            outputs,
            |format: Format, _: IsStdout, out: &mut dyn std::io::Write| {
                render::render(format, report, &options, out)
            },
        );
        if let Some(failure) = written.failures.first() {
            return Err(failure.chain());
        }
        self.last = written.files.first().map(PathBuf::from);
        Ok(written.files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::Analyzer;
    use crate::cli::engine::Sink as _;
    use crate::cli::names::Template;
    use crate::cli::settings::TargetChoice;
    use crate::collect;
    use crate::limits::Limits;
    use crate::process::Selection;
    use crate::recording::{Host, Interval, Tables, Tool};
    use crate::tui::Look;
    use crate::units::{Nanos, Timestamp};
    use std::path::Path;

    fn named(path: &Path) -> Template {
        Template::parse(path.as_os_str()).expect("a name")
    }

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
            saving: Saving::ByKey {
                capture: named(&path.with_extension("holdup")),
                report: Some(OutputSpec {
                    destination: Destination::File(named(path)),
                    format: Format::Text,
                }),
            },
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

    fn interval(start: u64, end: u64) -> Interval {
        Interval {
            start: Timestamp(start),
            end: Timestamp(end),
            ..Interval::default()
        }
    }

    /// Saves, and says what became of it.
    fn saved(saver: &mut Saver<'_>, report: &Report) -> String {
        let now = saver.save(report);
        let Some(seen) = saver.seen() else {
            return now;
        };
        let said = seen.said();
        for _ in 0..1_000 {
            match said.take() {
                Some(text) => return text,
                None => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
        now
    }

    #[test]
    fn what_was_saved_is_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("seen.txt");
        let capture = path.with_extension("holdup");
        let (header, tables) = (header(), Tables::default());
        let report = Analyzer::new(&header).report(&header, &tables);
        let settings = settings(&path);
        let mut saver = Saver::new(&settings, Pid(1));
        assert!(saver.can_finish());
        assert_eq!(saver.begin(&header), None);
        assert!(!path.exists(), "nothing is written before it is wanted");
        for seconds in 1..=2 {
            let ends = seconds * 1_000_000_000;
            let seen = saver.seen().expect("it is kept");
            seen.take(&tables, interval(ends - 1_000_000_000, ends));
            let said = saved(&mut saver, &report);
            let names = [capture.display(), path.display()];
            assert!(said.starts_with(&format!("saved {} (", names[0])), "{said}");
            assert!(said.ends_with(&format!("), {}", names[1])), "{said}");
            let file = std::fs::File::open(&capture).expect("it is there");
            let read = crate::capture::Capture::open(file).expect("a capture");
            assert_eq!(read.end, crate::capture::End::Complete);
            let length = read.intervals(crate::capture::Range::ALL, |_| {});
            assert_eq!(length.expect("intervals"), Nanos(ends), "all of so far");
        }
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.contains("NO DATA"));
        let mut other = Saver::new(&settings, Pid(1));
        let why = other.begin(&header).expect("another one's").to_owned();
        assert!(why.contains("exists"), "{why}");
        assert!(other.save(&report).contains("exists"));
        let left = std::fs::read_dir(dir.path()).expect("lists").count();
        assert_eq!(left, 2, "the file that is kept has no name");
    }
}
