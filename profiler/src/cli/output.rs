//! The reports' destinations: prepared before the recording, written after it.

use super::closed;
use super::error::{Error, Result};
use super::pending_file::PendingFile;
use super::settings::{Destination, OutputSpec};
use crate::host::privileges::user_of_files;
use crate::process::Invoker;
use crate::render::Format;
use crate::units::Pid;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::io::{self, BufWriter, Write};
use std::time::SystemTime;

/// A destination that was found fit to be written to.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Stdout,
    File(PendingFile),
}

/// What became of the outputs.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Files that are there now.
    pub(crate) files: Vec<String>,
    /// Outputs that failed; the others are complete.
    pub(crate) failures: Vec<Error>,
    /// Whether the capture ended before the recording, which was told then.
    pub(crate) capture_failed: bool,
}

impl Written {
    /// Adds what became of others.
    pub(crate) fn add(&mut self, more: Written) {
        self.files.extend(more.files);
        self.failures.extend(more.failures);
    }
}

/// Opens every destination, so that what cannot be written is known before the recording and
/// not after it. Where a user called `sudo`, that user opens them. A standard output that was closed
/// is left out.
///
/// # Errors
/// Where one of them cannot be written to.
pub(crate) fn prepare(
    specs: &[OutputSpec],
    pid: Pid,
    time: SystemTime,
    force: bool,
    invoker: Option<&Invoker>,
) -> Result<Vec<Output>> {
    let user = user_of_files(invoker);
    let mut outputs: Vec<Output> = Vec::new();
    for spec in specs {
        let sink = match &spec.destination {
            Destination::Stdout if closed::was_stdout_closed() => continue,
            Destination::Stdout => Sink::Stdout,
            Destination::File(template) => {
                let path = template.fill(pid, time);
                let file = PendingFile::create(&path, force, user.as_ref())?;
                if outputs.iter().any(|output| output.is_at(&file)) {
                    return Err(Error::usage(format!(
                        "two outputs are called {}",
                        path.display()
                    )));
                }
                Sink::File(file)
            }
        };
        outputs.push(Output {
            format: spec.format,
            sink,
        });
    }
    Ok(outputs)
}

/// Whether any of these is a file.
pub(crate) fn has_files(specs: &[OutputSpec]) -> bool {
    let is_file = |spec: &OutputSpec| matches!(spec.destination, Destination::File(_));
    specs.iter().any(is_file)
}

/// Whether an output is at the same place as `file`.
pub(crate) fn any_at(outputs: &[Output], file: &PendingFile) -> bool {
    outputs.iter().any(|output| output.is_at(file))
}

/// Whether every file could be given its name now, with the rights that this thread has now.
pub(crate) fn can_finish(outputs: &[Output]) -> bool {
    outputs.iter().all(|output| match &output.sink {
        Sink::Stdout => true,
        Sink::File(file) => file.can_commit(),
    })
}

/// The same outputs once more, to be written to before these; and what failed.
pub(crate) fn again(outputs: &[Output]) -> (Vec<Output>, Vec<Error>) {
    let (mut again, mut failures) = (Vec::new(), Vec::new());
    for output in outputs {
        let sink = match &output.sink {
            Sink::Stdout => Ok(Sink::Stdout),
            Sink::File(file) => file.again().map(Sink::File).map_err(|error| {
                let what = format!("cannot write {}", file.path().display());
                Error::new(what).because(error)
            }),
        };
        let format = output.format;
        match sink {
            Ok(sink) => again.push(Output { format, sink }),
            Err(error) => failures.push(error),
        }
    }
    (again, failures)
}

/// Writes every output. One that fails does not keep the others from being written.
pub(crate) fn write_all(
    outputs: Vec<Output>,
    render: impl Fn(Format, IsStdout, &mut dyn Write) -> io::Result<()>,
) -> Written {
    let mut written = Written::default();
    for output in outputs {
        match output.sink {
            Sink::Stdout => {
                let result = write_stdout(|out| render(output.format, IsStdout(true), out));
                if let Err(error) = result {
                    let failure = Error::new("cannot write to standard output").because(error);
                    written.failures.push(failure);
                }
            }
            Sink::File(file) => {
                let path = file.path().display().to_string();
                match write_file(file, |out| render(output.format, IsStdout(false), out)) {
                    Ok(()) => written.files.push(path),
                    Err(error) => {
                        let failure = Error::new(format!("cannot write {path}")).because(error);
                        written.failures.push(failure);
                    }
                }
            }
        }
    }
    written
}

/// Whether what is rendered goes to standard output, where there may be a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IsStdout(pub(crate) bool);

/// Whether standard output is a terminal that went away: it takes nothing any more (termios(3), "Modem
/// disconnect").
fn has_hung_up(error: &io::Error) -> bool {
    let is_device = || {
        let stat = rustix::fs::fstat(io::stdout());
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice)
    };
    Errno::from_io_error(error) == Some(Errno::IO) && is_device()
}

/// Writes to standard output. That its reader left (`holdup … | head`), or the terminal was closed, is no
/// failure.
pub(crate) fn write_stdout(
    render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    closed::cannot_write()?;
    let mut out = BufWriter::new(io::stdout().lock());
    match render(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe || has_hung_up(&error) => {
            // Or its drop would try once more.
            let _ = out.into_parts();
            Ok(())
        }
        other => other,
    }
}

fn write_file(
    file: PendingFile,
    render: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = BufWriter::new(file.file());
    render(&mut out)?;
    out.flush()?;
    drop(out);
    file.commit()
}

/// Writes an output bit by bit.
#[derive(Debug)]
pub(crate) enum Writer {
    Stdout(BufWriter<io::Stdout>),
    File(PendingFile, BufWriter<std::fs::File>),
    /// A file that has its name already, and this is it.
    Named(String, BufWriter<std::fs::File>),
    /// A file that could not be opened a second time.
    Failed(String, Option<io::Error>),
}

impl Writer {
    /// The file's name, none of standard output.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Writer::Stdout(_) => None,
            Writer::File(file, _) => Some(file.path().display().to_string()),
            Writer::Named(name, _) | Writer::Failed(name, _) => Some(name.clone()),
        }
    }

    /// Gives a file its name before it is complete, so that what is written can be read at once.
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        if !matches!(self, Writer::File(..)) {
            return Ok(());
        }
        let name = self.name().unwrap_or_default();
        let Writer::File(file, mut out) = std::mem::replace(self, Writer::Failed(name, None))
        else {
            return Ok(());
        };
        out.flush()?;
        let name = file.path().display().to_string();
        file.commit()?;
        *self = Writer::Named(name, out);
        Ok(())
    }

    /// Gives the file its name, and tells it.
    pub(crate) fn commit(self) -> io::Result<Option<String>> {
        let name = self.name();
        match self {
            Writer::Stdout(mut out) => out.flush()?,
            Writer::File(file, mut out) => {
                out.flush()?;
                drop(out);
                file.commit()?;
            }
            Writer::Named(_, mut out) => out.flush()?,
            Writer::Failed(_, error) => return Err(error.unwrap_or_else(gone)),
        }
        Ok(name)
    }
}

fn gone() -> io::Error {
    io::Error::other("it could not be opened")
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Writer::Stdout(out) => out.write(bytes),
            Writer::File(_, out) | Writer::Named(_, out) => out.write(bytes),
            Writer::Failed(_, error) => Err(error.take().unwrap_or_else(gone)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Writer::Stdout(out) => out.flush(),
            Writer::File(_, out) | Writer::Named(_, out) => out.flush(),
            Writer::Failed(..) => Ok(()),
        }
    }
}

impl Output {
    /// What is to be written.
    pub(crate) const fn format(&self) -> Format {
        self.format
    }

    /// To write it bit by bit.
    pub(crate) fn into_writer(self) -> Writer {
        match self.sink {
            Sink::Stdout => Writer::Stdout(BufWriter::new(io::stdout())),
            Sink::File(file) => match file.file().try_clone() {
                Ok(handle) => Writer::File(file, BufWriter::new(handle)),
                Err(error) => Writer::Failed(file.path().display().to_string(), Some(error)),
            },
        }
    }

    fn is_at(&self, other: &PendingFile) -> bool {
        match (&self.sink, other.place()) {
            (Sink::File(file), Ok(place)) => file.place().is_ok_and(|own| own == place),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::Template;
    use super::*;
    use std::path::Path;

    fn spec(path: &Path) -> OutputSpec {
        let template = Template::parse(path.as_os_str()).expect("a name");
        OutputSpec {
            destination: Destination::File(template),
            format: Format::Json,
        }
    }

    fn prepared(specs: &[OutputSpec]) -> Result<Vec<Output>> {
        prepare(specs, Pid(7), SystemTime::UNIX_EPOCH, false, None)
    }

    #[test]
    fn one_failure_does_not_lose_the_others() {
        let dir = tempfile::tempdir().expect("dir");
        let path = |name: &str| dir.path().join(name);
        let specs = ["a", "b", "c"].map(|name| spec(&path(name)));
        let outputs = prepared(&specs).expect("prepares");
        std::fs::write(path("b"), "taken meanwhile").expect("writes");
        let written = write_all(outputs, |_, _, out| out.write_all(b"report"));
        assert_eq!(written.failures.len(), 1);
        assert_eq!(
            written.files,
            [path("a"), path("c")].map(|path| path.display().to_string())
        );
        assert_eq!(std::fs::read_to_string(path("c")).expect("reads"), "report");
        assert_eq!(
            std::fs::read_to_string(path("b")).expect("reads"),
            "taken meanwhile"
        );
    }

    #[test]
    fn a_report_of_so_far_is_replaced_by_the_last_one() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a");
        let read = || std::fs::read_to_string(&path).expect("reads");
        let outputs = prepared(&[spec(&path)]).expect("prepares");
        let (early, failures) = again(&outputs);
        assert!(failures.is_empty());
        let written = write_all(early, |_, _, out| out.write_all(b"so far"));
        assert!(written.failures.is_empty());
        assert_eq!(read(), "so far");
        let written = write_all(outputs, |_, _, out| out.write_all(b"all"));
        assert!(written.failures.is_empty());
        assert_eq!(read(), "all");
    }

    #[test]
    fn a_renderer_that_fails_leaves_no_half_report() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a");
        let outputs = prepared(&[spec(&path)]).expect("prepares");
        let written = write_all(outputs, |_, _, out| {
            out.write_all(b"half")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(written.failures.len(), 1);
        assert!(!path.exists());
    }

    #[test]
    fn two_names_of_one_place() {
        let dir = tempfile::tempdir().expect("dir");
        let twice = [spec(&dir.path().join("7")), spec(&dir.path().join("./%p"))];
        let error = prepared(&twice).expect_err("one place");
        assert_eq!(error.exit_status(), crate::cli::Exit::Usage);
    }

    #[test]
    fn an_unwritable_place_is_known_beforehand() {
        let error = prepared(&[spec(Path::new("/proc/holdup.json"))]).expect_err("no place");
        assert!(
            error.chain().starts_with("cannot write /proc/holdup.json"),
            "{}",
            error.chain()
        );
    }
}
