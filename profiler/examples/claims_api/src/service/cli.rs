//! The command line.

use crate::server;
use claims_api::upstream;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A claims-processing service to try a profiler on.
#[derive(clap::Parser, Debug)]
#[command(version)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,

    /// Worker threads of the runtime.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,

    /// Folder for the database and the letters [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// The host that the provider directory lives on; every directory request resolves it.
    #[arg(long, value_name = "NAME", default_value = "claims-db.internal")]
    pub(crate) directory_host: String,

    /// Have the payer's gateway answer at once, as if asking it were mended.
    #[arg(long)]
    pub(crate) fast_gateway: bool,

    /// Answer under /v1 as under /v2: every mistake is mended, and clients notice nothing else.
    #[arg(long)]
    pub(crate) repaired: bool,

    /// Shut down when standard input closes, so that the service cannot outlive its starter.
    #[arg(long)]
    pub(crate) exit_with_stdin: bool,

    /// Be the payer's gateway, a process of its own that the service asks over TCP.
    #[arg(long, hide = true)]
    serve_upstream: bool,
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        if self.serve_upstream {
            return Ok(upstream::serve(self.fast_gateway)?);
        }
        server::run(&self)
    }
}
