//! The programs of `profiler/examples/pingpong`, at work.

use super::Bench;
use anyhow::{Context as _, Result};
use children::{Child, Stream};
use std::process::Command;
use std::time::Duration;

const START: Duration = Duration::from_secs(20);
/// How much longer than asked for a slice may take on a machine under load.
const LATE: Duration = Duration::from_secs(30);

/// A ping-pong server and its client, which is silent between slices.
#[derive(Debug)]
pub(super) struct PingPong {
    pub(super) server: Child,
    pub(super) client: Child,
}

impl PingPong {
    pub(super) fn start(bench: &Bench) -> Result<PingPong> {
        let mut server = command(bench, &["server"]);
        let mut server = Child::start("the ping-pong server", &mut server, Stream::Stdout)?;
        let (_, line) = server.read_line(START)?;
        let addr = line
            .strip_prefix("ready ")
            .context("the server did not tell its address")?;
        let mut client = command(bench, &["client", addr]);
        let mut client = Child::start("the ping-pong client", &mut client, Stream::Stdout)?;
        client.read_line(START)?;
        Ok(PingPong { server, client })
    }

    /// Round trips per second of one slice, warmed up before.
    pub(super) fn slice(&mut self, length: Duration) -> Result<f64> {
        self.begin_slice(Duration::from_millis(300))?;
        self.end_slice(length)?;
        self.begin_slice(length)?;
        self.end_slice(length)
    }

    /// Begins a slice and returns at once.
    pub(super) fn begin_slice(&mut self, length: Duration) -> Result<()> {
        Ok(self.client.write_line(&length.as_millis().to_string())?)
    }

    /// Waits for the end of the slice, of about `length`, that was begun; round trips per second.
    pub(super) fn end_slice(&mut self, length: Duration) -> Result<f64> {
        let (_, line) = self.client.read_line(length + LATE)?;
        rate(&line).with_context(|| format!("the client answered {line:?}"))
    }
}

/// A program that makes system calls, and is silent between slices.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) program: Child,
}

impl Caller {
    pub(super) fn start(bench: &Bench) -> Result<Caller> {
        let mut command = command(bench, &["caller"]);
        let mut program = Child::start("the caller", &mut command, Stream::Stdout)?;
        program.read_line(START)?;
        Ok(Caller { program })
    }

    /// Calls per second of one slice.
    pub(super) fn slice(&mut self, length: Duration) -> Result<f64> {
        self.program.write_line(&length.as_millis().to_string())?;
        let (_, line) = self.program.read_line(length + LATE)?;
        rate(&line).with_context(|| format!("the caller answered {line:?}"))
    }
}

fn rate(line: &str) -> Option<f64> {
    let (round_trips, seconds) = line.strip_prefix("round_trips=")?.split_once(" seconds=")?;
    let rate = round_trips.parse::<f64>().ok()? / seconds.parse::<f64>().ok()?;
    rate.is_finite().then_some(rate)
}

/// A program that needs nothing but its name: `idle`, `sleeper` or `faulter`.
pub(super) fn start(bench: &Bench, program: &str) -> Result<Child> {
    start_with(bench, &[program])
}

/// A program with arguments: its name first.
pub(super) fn start_with(bench: &Bench, args: &[&str]) -> Result<Child> {
    let name = args.first().copied().unwrap_or_default();
    let mut child = Child::start(name, &mut command(bench, args), Stream::Stdout)?;
    child.read_line(START)?;
    Ok(child)
}

fn command(bench: &Bench, args: &[&str]) -> Command {
    let mut command = Command::new(&bench.pingpong);
    command.arg("--cpu").arg(bench.cpu.to_string()).args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_or_refused() {
        assert_eq!(rate("round_trips=300 seconds=1.500000"), Some(200.0));
        assert_eq!(rate("round_trips=300 seconds=0"), None);
        assert_eq!(rate("round_trips=300"), None);
        assert_eq!(rate("ready"), None);
    }
}
