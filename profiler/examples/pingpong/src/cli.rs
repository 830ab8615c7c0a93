//! The command line.

use crate::{affinity, caller, client, memory, programs, sleeper};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Programs with a known rate and kind of waits.
#[derive(clap::Parser, Debug)]
#[command(version)]
pub(crate) struct Args {
    /// Run on this CPU alone.
    #[arg(long, value_name = "CPU", global = true)]
    cpu: Option<usize>,

    #[command(subcommand)]
    program: Program,
}

#[derive(clap::Subcommand, Debug)]
enum Program {
    /// Echo small messages over loopback TCP, with one tokio worker: it parks after each.
    Server,
    /// Send the server messages, one at a time, as fast as they come back.
    ///
    /// Each line on standard input is a number of milliseconds to do so; each answer on
    /// standard output is `round_trips=N seconds=S`.
    Client {
        /// The server's address.
        addr: SocketAddr,
    },
    /// Block a tokio worker in short sleeps, some calls deep inside a task poll.
    Sleeper {
        /// Calls between the task and the sleep.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
        depth: u32,
        /// How long each sleep is asked to be, in nanoseconds. The timer of a much shorter one
        /// fires before the thread has left the CPU, and then nothing waits.
        #[arg(long, default_value_t = 50_000)]
        nanos: u64,
    },
    /// Make system calls that do next to nothing, one after the other.
    ///
    /// Standard input and output are as the client's, with calls for round trips.
    Caller,
    /// Do nothing: a tokio runtime whose only worker stays parked.
    Idle(Map),
    /// Touch new memory, a page after the other.
    Faulter,
}

/// A piece of a file to be mapped as code, and never to be called.
#[derive(clap::Args, Debug)]
pub(crate) struct Map {
    /// The file.
    #[arg(long, value_name = "FILE", requires = "length")]
    map: Option<PathBuf>,
    /// Where in it the piece begins.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,
    /// How long it is.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    length: usize,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // Before any thread is made: they all inherit it.
        if let Some(cpu) = self.cpu {
            affinity::pin(cpu)?;
        }
        match self.program {
            Program::Server => programs::server(),
            Program::Client { addr } => client::run(addr),
            Program::Sleeper { depth, nanos } => sleeper::run(depth, nanos),
            Program::Caller => caller::run(),
            Program::Idle(map) => {
                if let Some(file) = &map.map {
                    memory::map_code(file, map.offset, map.length)?;
                }
                programs::idle()
            }
            Program::Faulter => memory::fault(),
        }
    }
}
