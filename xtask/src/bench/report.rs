//! The results, as a table and as JSON.

use super::attach::AttachTime;
use super::calls::CallCosts;
use super::cpus::Cpus;
use super::kinds::KindCost;
use super::throughput::{Peer, Throughput};
use crate::verified::Verified;
use serde::Serialize;
use std::io::{self, Write};

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    kernel: String,
    cpu: usize,
    recorder_cpu: usize,
    pub(super) throughput: Option<Throughput>,
    /// libbpf-tools' `offcputime -p`.
    #[serde(rename = "offcputime")]
    pub(super) peer: Option<Peer>,
    pub(super) attach: Option<AttachTime>,
    pub(super) costs: Vec<KindCost>,
    /// What `--syscalls` costs.
    pub(super) calls: Option<CallCosts>,
    /// What the running kernel's verifier made of the programs.
    pub(super) verified: Vec<Verified>,
}

impl Results {
    pub(super) fn new(cpus: &Cpus) -> Results {
        let kernel = rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned();
        Results {
            kernel,
            cpu: cpus.measured,
            recorder_cpu: cpus.recorder,
            throughput: None,
            peer: None,
            attach: None,
            costs: Vec::new(),
            calls: None,
            verified: Vec::new(),
        }
    }

    pub(super) fn write_table(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "Linux {}, ping-pong on CPU {}, recorder on CPU {}",
            self.kernel, self.cpu, self.recorder_cpu
        )?;
        if let Some(throughput) = &self.throughput {
            throughput.write(self.peer.as_ref(), out)?;
        }
        if let Some(attach) = &self.attach {
            attach.write(out)?;
        }
        if !self.costs.is_empty() {
            KindCost::write_head(out)?;
        }
        for cost in &self.costs {
            cost.write(out)?;
        }
        if let Some(calls) = &self.calls {
            calls.write(out)?;
        }
        if !self.verified.is_empty() {
            let head = ["instructions", "ms to load"];
            writeln!(out, "\n{:34} {:>12} {:>10}", "verifier", head[0], head[1])?;
        }
        for program in &self.verified {
            let count = program.instructions;
            let count = count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
            let (name, took) = (&program.name, program.milliseconds);
            writeln!(out, "{name:34} {count:>12} {took:>10.1}")?;
        }
        Ok(())
    }
}
