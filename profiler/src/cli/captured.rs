//! Captures that a verb reads.

use super::error::{Error, Result};
use super::exit::Exit;
use super::hint::shell_word;
use crate::analyze::Analyzer;
use crate::capture::{self, Capture, DebugFiles, End, LateNames, Range, name_late};
use crate::host::privileges::{as_user, user_of_files};
use crate::render::duration;
use crate::report::{Part, Report};
use crate::units::{Nanos, Timestamp};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::path::Path;

/// The report of a range of a capture, and how the capture ended.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) report: Report,
    pub(super) end: End,
    /// What was named late, where that was asked for.
    pub(super) late: Option<LateNames>,
}

/// Reads a capture and sums a range of it up.
///
/// # Errors
/// Where it cannot be read, or has nothing in that range.
pub(super) fn read(path: &Path, range: Range, symbols: Option<&Path>) -> Result<Captured> {
    let cannot = |error: capture::Error| failed(path, &error);
    let file = open(path).map_err(|error| cannot(capture::Error::Read(error)))?;
    let mut capture = Capture::open(file).map_err(cannot)?;
    let late = symbols.map(|dir| {
        let files = DebugFiles::of(dir).map_err(|error| {
            let word = shell_word(&dir.to_string_lossy());
            let error = Error::new(format!("cannot read {}", dir.display())).because(error);
            error.hint(format!("ls -ld {word}"))
        })?;
        Ok::<_, Error>(name_late(&mut capture.tables, &files))
    });
    let late = late.transpose()?;
    let mut analyzer = Analyzer::new(&capture.header);
    let mut taken: Option<(Timestamp, Timestamp)> = None;
    let length = capture.intervals(range, |interval| {
        let start = taken.map_or(interval.start, |(start, _)| start);
        taken = Some((start, interval.end));
        analyzer.add(&capture.tables, interval);
    });
    let length = length.map_err(cannot)?;
    let Some((start, end)) = taken else {
        return Err(nothing(path, range, length));
    };
    let mut report = analyzer.report(&capture.header, &capture.tables);
    if let Some(late) = &late {
        let unresolved = &mut report.losses.unresolved;
        *unresolved = unresolved.saturating_sub(late.named);
    }
    let part = Part {
        from_ns: start - capture.header.start,
        to_ns: end - capture.header.start,
        of_ns: length,
    };
    let is_all = part.from_ns == Nanos::ZERO && part.to_ns == part.of_ns;
    report.part = (!is_all).then_some(part);
    Ok(Captured {
        report,
        end: capture.end,
        late,
    })
}

/// Opens a file for reading, with no rights that the caller has not. One that nobody writes to, such as
/// a pipe, is not waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let open = || rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from);
    // Under sudo a capture of root's is to be read.
    let file = match user_of_files(None) {
        Some(user) => as_user(&user, open)??,
        None => open()?,
    };
    Ok(file.into())
}

fn nothing(path: &Path, range: Range, length: Nanos) -> Error {
    let path = path.display();
    if length == Nanos::ZERO {
        let error = Error::new(format!(
            "{path} has nothing in it: the recording ended at once"
        ));
        return error.hint("record again, for longer");
    }
    let error = Error::new(format!(
        "{path} has nothing after {}: the recording is {} long",
        duration(range.from),
        duration(length)
    ));
    error.hint("give another --from, or none")
}

/// What failed, why, and what to try.
fn failed(path: &Path, error: &capture::Error) -> Error {
    let word = shell_word(&path.to_string_lossy());
    let message = format!("cannot read {}", path.display());
    let plain = Error::new(message).because(reason(error));
    match error {
        capture::Error::Read(source) => match source.kind() {
            io::ErrorKind::NotFound => plain.hint(format!("ls -l {word}")),
            io::ErrorKind::PermissionDenied => plain
                .exit(Exit::Permission)
                .hint(format!("ls -l {word}, and ask its owner")),
            io::ErrorKind::IsADirectory => plain.hint(format!("ls {word}")),
            _ => plain,
        },
        capture::Error::NoFile => plain.hint(format!("ls -l {word}")),
        capture::Error::Empty | capture::Error::NotSqlite | capture::Error::Foreign => plain.hint(
            format!("file {word}; a capture is made by: holdup record -o incident.holdup"),
        ),
        capture::Error::Newer(_) => plain.hint("use the holdup that wrote it, or a newer one"),
        capture::Error::CutOff => plain.hint("copy it again from where it was recorded"),
        capture::Error::Damaged(_) => {
            plain.hint(format!("copy it again, or look in with: sqlite3 {word}"))
        }
        capture::Error::Changed => plain.hint("try again, or wait until the recording has ended"),
        capture::Error::TooMuch(_) | capture::Error::Write(..) => plain,
    }
}

fn reason(error: &capture::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
