//! The recorder that uses BPF.

use super::engine::Recorder;
use super::error::{Error, Result};
use super::exit::Exit;
use crate::collect::TICK;
use crate::host::Features;
use crate::host::privileges::{self, Keep};
use crate::process::Target;
use crate::report::Report;
use crate::{analyze, collect};
use std::io;
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

/// A recording by the kernel programs.
#[derive(Debug)]
pub(crate) struct Live {
    session: collect::Session,
}

/// An error of the rooms below, in the words of the command line.
fn failed(what: &str) -> impl Fn(anyhow::Error) -> Error {
    move |error| error.context(what.to_owned()).into()
}

impl Recorder for Live {
    fn start(
        targets: &[Arc<Target>],
        features: &Features,
        options: &collect::Options,
        keep: Keep,
    ) -> Result<Live> {
        let session = collect::Session::start(targets, &features.btf, options.clone())
            .map_err(failed("cannot begin to record"))?;
        // A command may yet execute the program that is meant, as a shell does, or its child.
        let may_come = options.launched || options.follow;
        match targets.first() {
            Some(target) if !may_come && !session.sees_tokio() => return Err(no_runtime(target)),
            _ => {}
        }
        privileges::drop_to(keep)
            .map_err(|error| Error::new("cannot give up privileges").because(error))?;
        Ok(Live { session })
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

    fn finish(self, ended: Option<String>) -> Result<Report> {
        let recording = self
            .session
            .finish(ended)
            .map_err(failed("cannot close the recording"))?;
        Ok(analyze::build(&recording))
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
