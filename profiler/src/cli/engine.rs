//! What the verbs need of the other rooms: a session that records, and renderers.
//!
//! A verb is written against these traits, so that its flow (signals, files, a launched command)
//! is tested without privileges.

use crate::error::Result;
use crate::host::{Features, privileges::Keep};
use crate::process::Target;
use crate::recording::Recording;
use crate::report::Report;
use crate::units::Nanos;
use clap::ValueEnum;
use std::io::{self, Write};
use std::sync::Arc;

/// A format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Format {
    /// For people
    #[value(alias = "txt")]
    Text,
    /// For programs, with a versioned schema
    Json,
    /// Folded stacks, one a line
    Folded,
    /// A flamegraph
    Svg,
    /// Folded stacks of waits with those who ended them
    WakersFolded,
    /// A flamegraph of waits with those who ended them
    WakersSvg,
    /// Folded stacks of all time: on a CPU, in line for one, blocked
    WallFolded,
    /// A flamegraph of all time: on a CPU, in line for one, blocked
    WallSvg,
}

/// How to render; the same for every output but for `color` and `width`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenderOptions {
    /// Whether the text may hold colors.
    pub color: bool,
    /// Columns of the terminal the text goes to; none where it goes to no terminal.
    pub width: Option<u16>,
    /// Whether flamegraphs leave out the frames of the runtime.
    pub collapse_runtime: bool,
}

/// How to record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Whether the target was started for this recording, and has not run yet.
    pub launched: bool,
    /// Shorter waits have no record of their own.
    pub min_block: Nanos,
    /// Whether processes that the targets fork are recorded too.
    pub follow: bool,
    /// CPU time between two samples of a thread on a CPU; none for no samples.
    pub sample_period: Option<Nanos>,
    /// Polls that take a CPU for so long are listed.
    pub long_poll: Nanos,
    /// One stack in so many is walked a second time, by another unwinder; 0 for none.
    pub shadow_every: u32,
    /// Whether time inside system calls is measured.
    pub calls: bool,
    /// Whether panics are counted.
    pub panics: bool,
}

/// A recording that goes on.
pub trait Session: Sized {
    /// Attaches to the targets, of which there is at least one. When this returns, every wait
    /// that follows is recorded. A launched command is held meanwhile at its first instruction.
    ///
    /// # Errors
    /// Where the kernel refuses, or no target holds a tokio runtime
    /// ([`crate::error::Exit::NoRuntime`]).
    fn start(
        targets: &[Arc<Target>],
        features: &Features,
        options: &SessionOptions,
    ) -> Result<Self>;

    /// Drains what the kernel side sends, until `stop` is done or every process that is recorded
    /// has ended. Called in a `current_thread` tokio runtime.
    ///
    /// # Errors
    /// Where recording cannot go on.
    fn run(&mut self, stop: impl Future<Output = ()>) -> impl Future<Output = Result<()>>;

    /// Detaches, and names and classifies what was recorded. `ended` tells how the first target
    /// ended, if it did (`exited`, `killed by SIGKILL`).
    ///
    /// # Errors
    /// Where the result is of no use at all. Whatever is merely incomplete is counted in
    /// [`crate::recording::Losses`].
    fn finish(self, ended: Option<String>) -> Result<Recording>;
}

/// The rooms behind a verb.
pub trait Engine {
    /// What records.
    type Session: Session;

    /// Gives up what the rest of the recording can do without.
    ///
    /// # Errors
    /// Where that fails: nothing may go on with more rights than it was promised.
    fn drop_privileges(keep: Keep) -> Result<()>;

    /// Sums a recording up.
    fn report(recording: &Recording) -> Report;

    /// Writes a report.
    ///
    /// # Errors
    /// Those of `out`.
    fn render(
        format: Format,
        report: &Report,
        options: &RenderOptions,
        out: &mut dyn Write,
    ) -> io::Result<()>;
}
