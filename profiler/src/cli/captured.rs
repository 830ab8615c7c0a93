//! Captures that a verb reads.

use super::error::{Error, Result};
use super::exit::Exit;
use super::hint::shell_word;
use super::reports::Reports;
use crate::analyze::Analyzer;
use crate::capture::{self, Capture, DebugFiles, Debuginfod, End, LateNames, Range, name_late};
use crate::host::privileges::{as_user, user_of_files};
use crate::process::Invoker;
use crate::recording::Interval;
use crate::render::duration;
use crate::report::{Filter, Keep, Part};
use crate::units::{Nanos, Timestamp};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{channel, sync_channel};
use std::thread;

/// The report of a range of a capture, and how the capture ended.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) reports: Reports,
    pub(super) end: End,
    /// What was named late, where that was asked for.
    pub(super) late: Option<LateNames>,
}

/// How a capture is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct HowToRead<'a> {
    pub(super) range: Range,
    /// What is listed.
    pub(super) filter: &'a Filter,
    /// Where debug files are.
    pub(super) symbols: Option<&'a Path>,
    /// Who is asked for those that are not there.
    pub(super) servers: Option<&'a Debuginfod>,
    /// What is kept one by one.
    pub(super) keep: Keep,
    /// Who called `sudo`.
    pub(super) invoker: Option<&'a Invoker>,
}

/// Reads a capture and sums a range of it up.
///
/// # Errors
/// Where it cannot be read, or has nothing in that range.
pub(super) fn read(path: &Path, how: &HowToRead<'_>) -> Result<Captured> {
    let cannot = |error: capture::Error| failed(path, &error);
    let user = user_of_files(how.invoker);
    let range = how.range;
    let file = with_rights_of(user.as_ref(), || open(path));
    let file = file.and_then(|file| file);
    let file = file.map_err(|error| cannot(capture::Error::Read(error)))?;
    let mut capture = Capture::open(file).map_err(cannot)?;
    let late = match how.symbols.is_some() || how.servers.is_some() {
        true => Some(late_names(&mut capture, how, user.as_ref())?),
        false => None,
    };
    let (analyzer, taken, length) = sum_up(&capture, how);
    let length = length.map_err(cannot)?;
    let Some((start, end)) = taken else {
        return Err(nothing(path, range, length));
    };
    let (header, tables) = (&capture.header, &capture.tables);
    let mut reports = Reports::made(&analyzer, header, tables, how.filter);
    let named = late.as_ref().map_or(0, |late| late.named);
    let found = late.as_ref().map(|late| &late.found);
    let mut frames = tables.stacks.iter().flat_map(|stack| &stack.frames);
    let has_lines = found.is_some() && frames.any(|frame| frame.line.is_some());
    let part = Part {
        from_ns: start - capture.header.start,
        to_ns: end - capture.header.start,
        of_ns: length,
    };
    let is_all = part.from_ns == Nanos::ZERO && part.to_ns == part.of_ns;
    reports.each(|report| {
        let unresolved = &mut report.losses.unresolved;
        *unresolved = unresolved.saturating_sub(named);
        for target in report.targets.iter_mut().chain([&mut report.target]) {
            let was_found = found.is_some_and(|found| found.contains(target.exe_name()));
            target.has_symbols |= was_found;
            target.has_lines |= was_found && has_lines;
        }
        report.part = (!is_all).then_some(part);
    });
    Ok(Captured {
        reports,
        end: capture.end,
        late,
    })
}

/// Names what had no name, by the debug files that there are.
fn late_names(
    capture: &mut Capture,
    how: &HowToRead<'_>,
    user: Option<&Invoker>,
) -> Result<LateNames> {
    let named = with_rights_of(user, || {
        let files = how.symbols.map(DebugFiles::of).transpose()?;
        let files = files.unwrap_or_default();
        Ok(name_late(&mut capture.tables, &files, how.servers))
    });
    named.and_then(|named| named).map_err(|error| {
        let dir = how.symbols.unwrap_or(Path::new(""));
        let word = shell_word(&dir.to_string_lossy());
        let error = Error::new(format!("cannot read {}", dir.display())).because(error);
        error.hint(format!("ls -ld {word}"))
    })
}

/// Intervals between the thread that reads and the one that sums up.
const AHEAD: usize = 4;

/// The sums of a range of a capture, its first and its last instant, and the length of the whole
/// recording. To read takes half as long as to sum up, and is done meanwhile.
fn sum_up(
    capture: &Capture,
    how: &HowToRead<'_>,
) -> (
    Analyzer,
    Option<(Timestamp, Timestamp)>,
    capture::Result<Nanos>,
) {
    let mut analyzer = Analyzer::new(&capture.header);
    analyzer.keep(how.keep);
    analyzer.keep_for(how.filter);
    let mut taken: Option<(Timestamp, Timestamp)> = None;
    let tables = &capture.tables;
    let length = thread::scope(|scope| {
        let (sender, intervals) = sync_channel::<Interval>(AHEAD);
        let (spent, to_free) = channel::<Interval>();
        let (analyzer, taken) = (&mut analyzer, &mut taken);
        scope.spawn(move || {
            for mut interval in intervals {
                let start = taken.map_or(interval.start, |(start, _)| start);
                *taken = Some((start, interval.end));
                analyzer.add_from(tables, &mut interval);
                // It is freed with the channel where nobody takes it any more.
                let _ = spent.send(interval);
            }
        });
        // The other side ends only after this one, or by a panic, which the scope passes on.
        capture.intervals(how.range, |interval| {
            drop(sender.send(interval));
            to_free.try_iter().for_each(drop);
        })
    });
    (analyzer, taken, length)
}

/// Opens a file for reading. One that nobody writes to, such as a pipe, is not waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Does something with files with no rights but those of the user who called us, where that is not we:
/// to be allowed to call holdup by sudo is no right to read root's files.
fn with_rights_of<T>(user: Option<&Invoker>, act: impl FnOnce() -> T) -> io::Result<T> {
    match user {
        Some(user) => as_user(user, act),
        None => Ok(act()),
    }
}

fn nothing(path: &Path, range: Range, length: Nanos) -> Error {
    let path = path.display();
    if length == Nanos::ZERO {
        let error = Error::new(format!(
            "{path} has nothing in it: the recording ended, or its disk was full, within the first second"
        ));
        return error.hint("record again, for longer");
    }
    if range.from >= length {
        let error = Error::new(format!(
            "{path} has nothing after {}: the recording is {} long",
            duration(range.from),
            duration(length)
        ));
        return error.hint("give an earlier --from, or none");
    }
    let error = Error::new(format!(
        "{path} has nothing from {} to {}: that part was not kept",
        duration(range.from),
        duration(range.to.min(length))
    ));
    error.hint("give a later --to, or none")
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
