//! What `record` needs of the machine: a recorder.
//!
//! The verb is written against this trait, so that its flow (signals, files, a launched command)
//! is tested without privileges.

use super::error::Result;
use super::observer::Observer;
use super::reports::Reports;
use super::stream::Streams;
use crate::collect;
use crate::host::{Features, privileges::Keep};
use crate::process::Target;
use crate::recording::{Header, Interval, Tables};
use crate::report::{self, Filter};
use std::sync::Arc;

/// Takes what is recorded besides the report: a capture.
pub(crate) trait Sink {
    /// The interval that follows, and the tables that it names so far.
    fn take(&mut self, tables: &Tables, interval: Interval);

    /// The last one, with the tables for good.
    fn take_last(&mut self, tables: &Tables, interval: Interval);
}

/// A recording that goes on.
pub(crate) trait Recorder: Sized {
    /// Attaches to the targets, of which there is at least one, and then gives up every right
    /// but those in `keep`. When this returns, every wait that follows is recorded. A launched
    /// command is held meanwhile at its first instruction.
    ///
    /// # Errors
    /// Where the kernel refuses, or no target holds a tokio runtime
    /// ([`super::Exit::NoRuntime`]).
    fn start(
        targets: &[Arc<Target>],
        features: &Features,
        options: &collect::Options,
        keep: Keep,
    ) -> Result<Self>;

    /// Keeps single waits for the report. Called before [`Recorder::run`], if at all.
    fn keep(&mut self, keep: report::Keep);

    /// Also makes a report of what `filter` chooses. Called before [`Recorder::run`], if at all.
    fn filter(&mut self, filter: &Filter);

    /// Writes every interval to `streams` as it ends. Called before [`Recorder::run`], if at all.
    fn stream(&mut self, streams: Streams);

    /// Lets `observer` see every interval. Called before [`Recorder::run`], if at all.
    fn observe(&mut self, observer: Observer);

    /// By what, where and how it is made.
    fn header(&self) -> Header;

    /// Drains what the kernel side sends, until `stop` is done, or every process that is recorded has ended
    /// and none can join. Called in a `current_thread` tokio runtime. Intervals go to `sink` as well.
    ///
    /// # Errors
    /// Where recording cannot go on.
    fn run(
        &mut self,
        stop: impl Future<Output = ()>,
        sink: Option<&mut dyn Sink>,
    ) -> impl Future<Output = Result<()>>;

    /// Detaches, and sums up what was recorded. `ended` tells how the first target ended, if it
    /// did (`exited`, `killed by SIGKILL`). The last interval goes to `sink` as well.
    ///
    /// # Errors
    /// Where the result is of no use at all. Whatever is merely incomplete is counted in
    /// the reports' losses.
    fn finish(self, ended: Option<String>, sink: Option<&mut dyn Sink>) -> Result<Reports>;
}
