//! The results, as a table and as JSON.

use super::attach::AttachTime;
use super::cpus::Cpus;
use super::kinds::KindCost;
use super::throughput::OwnCosts;
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

#[derive(Debug, Serialize)]
pub(super) struct Throughput {
    pub(super) base_per_second: Spread,
    pub(super) recorded_per_second: Spread,
    /// Recorded against unrecorded.
    pub(super) ratio: Spread,
    pub(super) own: Own,
}

/// Nanoseconds of one system call that does next to nothing.
#[derive(Debug, Serialize)]
pub(super) struct CallCosts {
    pub(super) unrecorded_ns: Spread,
    /// While another process is recorded with `--syscalls`.
    pub(super) of_others_ns: Spread,
    /// While the caller itself is.
    pub(super) of_target_ns: Spread,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Peer {
    Measured { ratio: Spread },
    LeftOut { because: String },
}

/// What holdup itself used.
#[derive(Debug, Serialize)]
pub(super) struct Own {
    /// Of one CPU, 1.0 being all of it.
    cpu_share: Spread,
    resident_bytes: u64,
    seconds_to_recording: Spread,
}

impl Own {
    pub(super) fn of(slices: &[OwnCosts]) -> Own {
        let spread =
            |value: fn(&OwnCosts) -> f64| Spread::of(&slices.iter().map(value).collect::<Vec<_>>());
        Own {
            cpu_share: spread(|own| own.cpu_share),
            resident_bytes: slices
                .iter()
                .map(|own| own.resident)
                .max()
                .unwrap_or_default(),
            seconds_to_recording: spread(|own| own.ready_after.as_secs_f64()),
        }
    }
}

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// All zero of no values.
    pub(super) fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let last = sorted.len().saturating_sub(1);
        Spread {
            median: (at(last / 2) + at(last.div_ceil(2))) / 2.0,
            min: at(0),
            max: at(last),
        }
    }
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
            writeln!(
                out,
                "\n{:34} {:>10} {:>10} {:>10}",
                "throughput", "median", "min", "max"
            )?;
            write_spread(
                out,
                "round trips/s, unrecorded",
                throughput.base_per_second,
                0,
            )?;
            write_spread(
                out,
                "round trips/s, under holdup",
                throughput.recorded_per_second,
                0,
            )?;
            write_spread(out, "ratio under holdup", throughput.ratio, 3)?;
            match &self.peer {
                Some(Peer::Measured { ratio }) => {
                    write_spread(out, "ratio under offcputime -p", *ratio, 3)?;
                    let (own, peer) = (1.0 - throughput.ratio.median, 1.0 - ratio.median);
                    if peer > 0.0 {
                        writeln!(
                            out,
                            "{:34} {:>10.2}",
                            "loss against offcputime's",
                            own / peer
                        )?;
                    }
                }
                Some(Peer::LeftOut { because }) => writeln!(out, "offcputime left out: {because}")?,
                None => (),
            }
            let own = &throughput.own;
            write_spread(
                out,
                "holdup's own CPU, % of one",
                own.cpu_share.times(100.0),
                2,
            )?;
            write_spread(
                out,
                "s from start to recording",
                own.seconds_to_recording,
                3,
            )?;
            let mib = own.resident_bytes as f64 / f64::from(1 << 20);
            writeln!(out, "{:34} {mib:>10.1}", "holdup's resident MiB")?;
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
            writeln!(
                out,
                "\n{:34} {:>10} {:>10} {:>10}",
                "a system call, with --syscalls", "median", "min", "max"
            )?;
            write_spread(out, "ns, unrecorded", calls.unrecorded_ns, 0)?;
            write_spread(out, "ns, of another process", calls.of_others_ns, 0)?;
            write_spread(out, "ns, of the recorded process", calls.of_target_ns, 0)?;
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

impl Spread {
    fn times(self, factor: f64) -> Spread {
        Spread {
            median: self.median * factor,
            min: self.min * factor,
            max: self.max * factor,
        }
    }
}

pub(super) fn write_spread(
    out: &mut impl Write,
    name: &str,
    s: Spread,
    digits: usize,
) -> io::Result<()> {
    writeln!(
        out,
        "{name:34} {:>10.digits$} {:>10.digits$} {:>10.digits$}",
        s.median, s.min, s.max
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(
            Spread::of(&[4.0, 1.0, 3.0, 2.0]),
            Spread {
                median: 2.5,
                min: 1.0,
                max: 4.0
            }
        );
        assert_eq!(
            Spread::of(&[3.0, 1.0, 2.0]),
            Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            }
        );
        assert_eq!(
            Spread::of(&[]),
            Spread {
                median: 0.0,
                min: 0.0,
                max: 0.0
            }
        );
    }
}
