//! The capture that `record` writes: prepared before the recording, written as it goes on by a thread
//! of its own, so that a slow disk holds up nothing.

use super::engine::Sink;
use super::error::{Error, Result};
use super::hint::shell_word;
use super::pending_file::PendingFile;
use super::progress::Progress;
use super::settings::CaptureSpec;
use super::values::size_text;
use crate::capture::{self, Bounds, News, Summary, Told, Writer};
use crate::host::privileges::user_of_files;
use crate::process::Invoker;
use crate::recording::{Header, Interval, Tables};
use crate::render::duration;
use crate::units::Pid;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Intervals that may wait for the disk. A disk that takes nothing for longer than that ends the
/// capture, and not the recording.
const WAITING: usize = 16;

/// A capture that has no name yet.
#[derive(Debug)]
pub(crate) struct CaptureFile {
    file: PendingFile,
    bounds: Bounds,
}

impl CaptureFile {
    /// Makes the file, with the rights of the user who called `sudo` where one did.
    ///
    /// # Errors
    /// Where it cannot be written to.
    pub(crate) fn prepare(
        spec: &CaptureSpec,
        pid: Pid,
        time: SystemTime,
        force: bool,
        invoker: Option<&Invoker>,
    ) -> Result<CaptureFile> {
        let path = spec.path.fill(pid, time);
        let file = PendingFile::create(&path, force, user_of_files(invoker).as_ref())?;
        Ok(CaptureFile {
            file,
            bounds: spec.bounds,
        })
    }

    /// The file under construction.
    pub(crate) const fn file(&self) -> &PendingFile {
        &self.file
    }

    /// Begins the capture and gives it its name, so that it is there whatever happens to us.
    ///
    /// # Errors
    /// Where it cannot be written, or the name is taken by now.
    pub(crate) fn begin<'a>(
        self,
        header: &Header,
        progress: &'a Progress,
    ) -> Result<CaptureSink<'a>> {
        let path = self.file.path().display().to_string();
        let cannot =
            |error: std::io::Error| Error::new(format!("cannot write {path}")).because(error);
        outlive_too_large_files();
        let file = self.file.file().try_clone().map_err(cannot)?;
        let kept = file.try_clone().map_err(cannot)?;
        let writer = Writer::create(file, header, self.bounds)
            .map_err(|error| failed(&path, &error, Summary::default()))?;
        self.file.commit().map_err(cannot)?;
        let (sender, jobs) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("holdup-capture".into())
            .spawn({
                let path = path.clone();
                move || write_all(writer, &jobs, &path)
            })
            .map_err(cannot)?;
        Ok(CaptureSink {
            progress,
            path,
            file: kept,
            told: Told::default(),
            jobs: Some(sender),
            thread: Some(thread),
            has_failed: false,
        })
    }
}

/// A file that becomes larger than this process may make one is to be an error of writing, and not the end
/// of the recording; see `RLIMIT_FSIZE` in getrlimit(2).
pub(super) fn outlive_too_large_files() {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// What the thread is to write.
enum Job {
    Append(News, Interval),
    Finish(News, Interval),
}

/// What the thread has done.
type Done = Result<Summary>;

fn write_all(mut writer: Writer, jobs: &Receiver<Job>, path: &str) -> Done {
    while let Ok(job) = jobs.recv() {
        let written = match &job {
            Job::Append(news, interval) => writer.append(news, interval),
            Job::Finish(news, interval) => writer.finish(news, interval),
        };
        if let Err(error) = written {
            // What is in it stays, and says why it ends; a full disk may not even have room for that.
            let _ = writer.end_early(&why(&error));
            return Err(failed(path, &error, writer.summary()));
        }
    }
    Ok(writer.summary())
}

/// In the words that stand in the capture.
pub(super) fn why(error: &capture::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn failed(path: &str, error: &capture::Error, summary: Summary) -> Error {
    let failed = Error::new(format!("the capture {path} ends here")).because(why(error));
    match summary.length.0 {
        0 => failed,
        _ => {
            let length = duration(summary.length);
            failed.hint(format!(
                "holdup report {}, for the {length} in it",
                shell_word(path)
            ))
        }
    }
}

/// Takes intervals to the thread that writes them. Says at once where that ends early.
#[derive(Debug)]
pub(crate) struct CaptureSink<'a> {
    progress: &'a Progress,
    path: String,
    /// To tell its size.
    file: File,
    told: Told,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<Done>>,
    has_failed: bool,
}

impl CaptureSink<'_> {
    fn send(&mut self, job: Job) {
        let Some(jobs) = &self.jobs else { return };
        match jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Disconnected(_)) => drop(self.join()),
            Err(TrySendError::Full(_)) => {
                self.jobs = None;
                // It may never come back from the disk.
                self.thread = None;
                let slow = std::io::Error::other("the disk takes too long to write to");
                self.fail(&Error::new(format!("the capture {} ends", self.path)).because(slow));
            }
        }
    }

    fn fail(&mut self, error: &Error) {
        self.has_failed = true;
        self.progress.clear();
        self.progress.error(error);
    }

    /// Lets the thread write what it has, and ends it.
    fn join(&mut self) -> Option<Summary> {
        self.jobs = None;
        match self.thread.take()?.join() {
            Ok(Ok(summary)) => return Some(summary),
            Ok(Err(error)) => self.fail(&error),
            // Its message is on standard error already.
            Err(_) => self.fail(&Error::new(format!("cannot write {}", self.path))),
        }
        None
    }

    /// Waits for the thread. Returns what is in the file, in words; none where it ended early.
    pub(crate) fn finish(&mut self) -> Option<String> {
        let summary = self.join()?;
        let metadata = self.file.metadata().ok();
        if metadata.as_ref().is_some_and(|file| file.nlink() == 0) {
            let removed =
                std::io::Error::other("it was removed meanwhile, or the folder it was in");
            self.fail(&Error::new(format!("the capture {} is lost", self.path)).because(removed));
            return None;
        }
        let size = metadata.map_or(0, |metadata| metadata.len());
        let mut text = format!("{} ({}", self.path, size_text(size));
        if summary.dropped > 0 {
            text.push_str(&format!(
                ", the last {}; the first {} were dropped",
                duration(summary.length),
                duration(summary.dropped_length)
            ));
        }
        text.push(')');
        Some(text)
    }

    /// Whether it ended early.
    pub(crate) const fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl Sink for CaptureSink<'_> {
    fn take(&mut self, tables: &Tables, interval: Interval) {
        if self.jobs.is_some() {
            let news = self.told.news(tables);
            self.send(Job::Append(news, interval));
        }
    }

    fn take_last(&mut self, tables: &Tables, interval: Interval) {
        if self.jobs.is_some() {
            let news = self.told.news(tables);
            self.send(Job::Finish(news, interval));
        }
    }
}
