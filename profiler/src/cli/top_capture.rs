//! The capture that `holdup top` keeps of what it sees, for the key `s`: a file without a name, which the
//! key copies to one that has a name. A thread of its own writes, so that a slow disk holds up nothing.

use super::capture::{outlive_too_large_files, why};
use super::engine::Sink;
use super::error::{Error, Result};
use super::names::Template;
use super::pending_file::PendingFile;
use super::values::size_text;
use crate::capture::{Bounds, News, Summary, Told, Writer};
use crate::host::privileges::user_of_files;
use crate::process::Invoker;
use crate::recording::{Header, Interval, Tables};
use crate::render::duration;
use crate::units::Pid;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::SystemTime;
use tokio::sync::Notify;

/// What the file may take: at least twenty minutes of a thousand waits a second. Then the oldest seconds are left
/// out. Names are never left out; the tables of a recording have bounds by which they take a third of it.
pub(super) const MAX_SIZE: u64 = 128 << 20;
/// Intervals that may wait for the disk.
const WAITING: usize = 16;

/// Where captures go.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Template,
    pub(super) pid: Pid,
    /// Whether a file that exists is overwritten.
    pub(super) force: bool,
    pub(super) invoker: Option<&'a Invoker>,
}

impl Place<'_> {
    fn path(&self, time: SystemTime) -> PathBuf {
        self.path.fill(self.pid, time)
    }

    /// A file for what is saved at `time`, made with the rights of the user who called `sudo`, if one did.
    fn prepare(&self, time: SystemTime) -> Result<PendingFile> {
        let user = user_of_files(self.invoker);
        PendingFile::create(&self.path(time), self.force, user.as_ref())
    }
}

/// The file before the recording begins.
#[derive(Debug)]
pub(super) struct SeenFile<'a> {
    place: Place<'a>,
    file: PendingFile,
}

impl<'a> SeenFile<'a> {
    /// # Errors
    /// Where nothing could be saved.
    pub(super) fn prepare(place: Place<'a>) -> Result<SeenFile<'a>> {
        let file = place.prepare(SystemTime::now())?;
        Ok(SeenFile { place, file })
    }

    /// Whether a copy could be given its name with the rights that this thread has now.
    pub(super) fn can_commit(&self) -> bool {
        self.file.can_commit()
    }

    /// # Errors
    /// Where the file cannot be written to.
    pub(super) fn begin(self, header: &Header) -> Result<Seen<'a>> {
        let cannot = |error: io::Error| {
            let what = format!("cannot write {}", self.file.path().display());
            Error::new(what).because(error)
        };
        outlive_too_large_files();
        let file = self.file.file().try_clone().map_err(cannot)?;
        let bounds = Bounds {
            max_size: Some(MAX_SIZE),
            keep: None,
        };
        let writer = Writer::create(file, header, bounds)
            .map_err(|error| cannot(io::Error::other(error.to_string())))?;
        let (jobs, received) = sync_channel(WAITING);
        let said = Arc::new(Said::default());
        let thread = std::thread::Builder::new()
            .name("holdup-seen".into())
            .spawn({
                let said = Arc::clone(&said);
                move || Worker::new(writer, said).work(&received)
            })
            .map_err(cannot)?;
        Ok(Seen {
            place: self.place,
            file: self.file,
            told: Told::default(),
            jobs: Some(jobs),
            thread: Some(thread),
            said,
        })
    }
}

/// What the thread is to do.
enum Job {
    Append(News, Box<Interval>),
    /// With what was saved besides.
    Save(PendingFile, Vec<String>),
}

/// What became of it, for the screen.
#[derive(Debug, Default)]
pub(super) struct Said {
    last: Mutex<Option<String>>,
    changed: Notify,
}

impl Said {
    fn say(&self, text: String) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        self.changed.notify_one();
    }

    /// The last that was said, once.
    pub(super) fn take(&self) -> Option<String> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Waits until something is said.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A capture that goes on, of what is seen.
#[derive(Debug)]
pub(super) struct Seen<'a> {
    place: Place<'a>,
    /// Where copies go that have the same name.
    file: PendingFile,
    told: Told,
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    said: Arc<Said>,
}

impl Seen<'_> {
    /// Saves what was seen so far; what becomes of it is said later. `besides` was saved already.
    ///
    /// # Errors
    /// Where that cannot be begun.
    pub(super) fn save(&mut self, besides: Vec<String>) -> Result<()> {
        let now = SystemTime::now();
        if self.file.path() != self.place.path(now) {
            self.file = self.place.prepare(now)?;
        }
        let copy = self.file.again().map_err(|error| {
            let what = format!("cannot write {}", self.file.path().display());
            Error::new(what).because(error)
        })?;
        match self.send(Job::Save(copy, besides)) {
            true => Ok(()),
            false => Err(Error::new("cannot save").because(io::Error::other(SLOW))),
        }
    }

    /// Whether the thread takes it.
    fn send(&mut self, job: Job) -> bool {
        let Some(jobs) = &self.jobs else {
            return false;
        };
        match jobs.try_send(job) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                // What comes is missing from here on, and it may never come back from the disk.
                self.jobs = None;
                self.thread = None;
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }

    /// What is said of what is saved.
    pub(super) fn said(&self) -> Arc<Said> {
        Arc::clone(&self.said)
    }

    /// Waits until everything is saved that is to be.
    pub(super) fn finish(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // The message of a panic is on standard error already.
            let _ = thread.join();
        }
    }

    fn append(&mut self, tables: &Tables, interval: Interval) {
        if self.jobs.is_some() {
            let news = self.told.news(tables);
            self.send(Job::Append(news, Box::new(interval)));
        }
    }
}

/// Why there is nothing to save any more.
const SLOW: &str = "the disk takes too long to write to";

impl Sink for Seen<'_> {
    fn take(&mut self, tables: &Tables, interval: Interval) {
        self.append(tables, interval);
    }

    fn take_last(&mut self, tables: &Tables, interval: Interval) {
        self.append(tables, interval);
    }
}

/// The thread's own.
struct Worker {
    writer: Writer,
    said: Arc<Said>,
    /// Why nothing is appended any more.
    ended: Option<String>,
}

impl Worker {
    fn new(writer: Writer, said: Arc<Said>) -> Worker {
        Worker {
            writer,
            said,
            ended: None,
        }
    }

    fn work(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            match job {
                Job::Append(news, interval) => self.append(&news, &interval),
                Job::Save(file, besides) => {
                    let text = self.save(file, besides);
                    self.said.say(text);
                }
            }
        }
    }

    /// What is in the file stays, and says why it ends.
    fn append(&mut self, news: &News, interval: &Interval) {
        if self.ended.is_some() {
            return;
        }
        if let Err(error) = self.writer.append(news, interval) {
            let why = why(&error);
            // A full disk may not even have room for that.
            let _ = self.writer.end_early(&why);
            self.ended = Some(why);
        }
    }

    /// Returns what to say of it.
    fn save(&mut self, file: PendingFile, besides: Vec<String>) -> String {
        let path = file.path().display().to_string();
        let copied = self.writer.copy(file.file()).map_err(|error| why(&error));
        let size = file.file().metadata().map_or(0, |metadata| metadata.len());
        let saved = copied.and_then(|()| file.commit().map_err(|error| error.to_string()));
        if let Err(error) = saved {
            return format!("cannot write {path}: {error}");
        }
        let extent = extent(self.writer.summary(), self.ended.as_deref());
        let mut files = vec![format!("{path} ({}{extent})", size_text(size))];
        files.extend(besides);
        format!("saved {}", files.join(", "))
    }
}

/// How much of what was seen is in it, where that is not all.
fn extent(summary: Summary, ended: Option<&str>) -> String {
    let length = duration(summary.length);
    match (ended, summary.dropped) {
        (Some(why), _) => format!(", {length} until {why}"),
        (None, 0) => String::new(),
        (None, _) => format!(", the last {length}"),
    }
}
