//! The engine that records with BPF.

use super::engine::{Engine, Format, RenderOptions, Session, SessionOptions};
use crate::collect::TICK;
use crate::error::{Error, Exit, Result};
use crate::host::Features;
use crate::host::privileges::{self, Keep};
use crate::process::Target;
use crate::recording::Recording;
use crate::report::Report;
use crate::{analyze, collect, render};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{Interest, unix::AsyncFd};

/// From one tick that something asked for to the next such one.
const BREATH: Duration = Duration::from_millis(1);

/// So often from tick to tick are news of mappings listened to: where thousands of threads begin
/// and end a second, these news must not keep us busy.
const MOST_NEWS: u32 = 16;

/// The rooms of this program.
#[derive(Debug)]
pub(crate) enum Live {}

/// A recording by the kernel programs.
#[derive(Debug)]
pub(crate) struct LiveSession {
    session: collect::Session,
}

impl Engine for Live {
    type Session = LiveSession;

    fn drop_privileges(keep: Keep) -> Result<()> {
        privileges::drop_to(keep)
    }

    fn report(recording: &Recording) -> Report {
        analyze::build(recording)
    }

    fn render(
        format: Format,
        report: &Report,
        options: &RenderOptions,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let format = match format {
            Format::Text => render::Format::Text,
            Format::Json => render::Format::Json,
            Format::Folded => render::Format::Folded,
            Format::Svg => render::Format::Svg,
            Format::WakersFolded => render::Format::WakersFolded,
            Format::WakersSvg => render::Format::WakersSvg,
            Format::WallFolded => render::Format::WallFolded,
            Format::WallSvg => render::Format::WallSvg,
        };
        let defaults = render::Options::default();
        let options = render::Options {
            color: options.color,
            width: options.width.map_or(defaults.width, usize::from),
            collapse_runtime: options.collapse_runtime,
            ..defaults
        };
        render::render(format, report, &options, out)
    }
}

/// An error of the rooms below, in the words of the command line.
fn failed(what: &str) -> impl Fn(anyhow::Error) -> Error {
    move |error| error.context(what.to_owned()).into()
}

impl Session for LiveSession {
    fn start(
        targets: &[Arc<Target>],
        features: &Features,
        options: &SessionOptions,
    ) -> Result<Self> {
        let how = collect::Options {
            min_block: options.min_block,
            sample_period: options.sample_period,
            long_poll: options.long_poll,
            launched: options.launched,
            follow: options.follow,
            shadow_every: options.shadow_every,
            calls: options.calls,
            panics: options.panics,
        };
        let session = collect::Session::start(targets, &features.btf, how)
            .map_err(failed("cannot begin to record"))?;
        // A command may yet execute the program that is meant, as a shell does, or its child.
        let may_come = options.launched || options.follow;
        match targets.first() {
            Some(target) if !may_come && !session.sees_tokio() => Err(no_runtime(target)),
            _ => Ok(LiveSession { session }),
        }
    }

    async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<()> {
        let cannot = |error: io::Error| Error::new("cannot watch the kernel side").because(error);
        let attention = self.session.attention().try_clone_to_owned();
        let attention = attention.map_err(cannot)?;
        let attention = listen(attention.as_fd()).map_err(cannot)?;
        let mappings = self.session.mapping_news().map_err(cannot)?;
        let mut news = None;
        let mut heard = 0;
        let mut stop = pin!(stop);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = &mut stop => return Ok(()),
                _ = ticks.tick() => {
                    heard = 0;
                    false
                }
                ready = attention.readable() => {
                    ready.map_err(cannot)?.clear_ready();
                    true
                }
                ready = readable(news.as_ref()) => {
                    ready.map_err(cannot)?;
                    heard += 1;
                    if heard >= MOST_NEWS {
                        news = None;
                    }
                    if !self.session.hears_of_code() {
                        continue;
                    }
                    true
                }
            };
            if news.is_none() && heard < MOST_NEWS {
                news = Some(listen(mappings.as_fd()).map_err(cannot)?);
            }
            self.session
                .tick()
                .map_err(failed("cannot go on recording"))?;
            if self.session.all_ended() {
                return Ok(());
            }
            if asked {
                // On a machine that starts many programs a second, news of their mappings must
                // not keep us busy.
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    fn finish(self, ended: Option<String>) -> Result<Recording> {
        self.session
            .finish(ended)
            .map_err(failed("cannot close the recording"))
    }
}

/// Has the runtime watch a descriptor.
fn listen(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    // SAFETY: the registration borrows the descriptor, which so is closed after it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

/// Waits until there is something to be read, for ever where there is no descriptor.
async fn readable(fd: Option<&AsyncFd<BorrowedFd<'_>>>) -> io::Result<()> {
    match fd {
        Some(fd) => fd.readable().await.map(|mut ready| ready.clear_ready()),
        None => std::future::pending().await,
    }
}

/// What is said where there is no tokio in a target.
pub(super) fn no_runtime(target: &Target) -> Error {
    Error::new(format!(
        "there is no tokio in {} (pid {}): neither in the program nor in its libraries",
        target.exe_name(),
        target.pid()
    ))
    .exit(Exit::NoRuntime)
}
