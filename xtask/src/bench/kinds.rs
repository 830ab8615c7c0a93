//! What events of one kind cost in the kernel.

use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};
use std::io::{self, Write};

/// One eBPF program's share in the cost of a kind of event.
#[derive(Clone, Debug)]
pub(super) struct ProgramCost {
    pub(super) program: String,
    pub(super) runs: u64,
    pub(super) nanos: u64,
}

impl ProgramCost {
    pub(super) fn per_run(&self) -> f64 {
        ratio(self.nanos as f64, self.runs)
    }
}

/// What events of one kind cost in the kernel.
#[derive(Clone, Debug)]
pub(super) struct KindCost {
    pub(super) kind: &'static str,
    pub(super) event: &'static str,
    pub(super) events: u64,
    /// What the kernel's statistics take of each run, which is in all figures: that of an empty
    /// program, measured at the same time.
    pub(super) statistics_nanos: f64,
    /// The programs that events of this kind run.
    pub(super) programs: Vec<ProgramCost>,
    /// Those that ran meanwhile for other reasons: in none of the sums.
    pub(super) meanwhile: Vec<ProgramCost>,
    /// What else the recorder's kernel side did, each by its name.
    pub(super) also: Vec<(&'static str, u64)>,
}

impl KindCost {
    fn nanos(&self) -> f64 {
        self.programs.iter().map(|p| p.nanos as f64).sum()
    }

    fn runs(&self) -> u64 {
        self.programs.iter().map(|p| p.runs).sum()
    }

    fn per_event(&self, whole: f64) -> f64 {
        ratio(whole, self.events)
    }

    /// Nanoseconds without what the statistics take.
    fn net(&self, nanos: f64, runs: u64) -> f64 {
        (nanos - runs as f64 * self.statistics_nanos).max(0.0)
    }

    pub(super) fn write_head(out: &mut impl Write) -> io::Result<()> {
        let head = ["events", "runs/event", "ns/event", "net", "ns/run", "net"];
        write!(out, "\n{:34}", "cost in the kernel")?;
        for head in head {
            write!(out, " {head:>10}")?;
        }
        writeln!(out)
    }

    pub(super) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let name = format!("{} ({})", self.kind, self.event);
        writeln!(
            out,
            "{name:34} {:>10} {:>10.2} {:>10.0} {:>10.0}",
            self.events,
            self.per_event(self.runs() as f64),
            self.per_event(self.nanos()),
            self.per_event(self.net(self.nanos(), self.runs())),
        )?;
        let own = self.programs.iter().map(|program| (program, ""));
        let meanwhile = self
            .meanwhile
            .iter()
            .map(|program| (program, "not in the sum"));
        for (program, note) in own.chain(meanwhile) {
            let nanos = program.nanos as f64;
            writeln!(
                out,
                "  {:15} {note:16} {:>10} {:>10.2} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
                program.program,
                "",
                self.per_event(program.runs as f64),
                self.per_event(nanos),
                self.per_event(self.net(nanos, program.runs)),
                program.per_run(),
                (program.per_run() - self.statistics_nanos).max(0.0),
            )?;
        }
        for (name, count) in &self.also {
            let per_event = self.per_event(*count as f64);
            writeln!(out, "  {name:32} {:>10} {per_event:>10.2}", "")?;
        }
        Ok(())
    }
}

impl Serialize for KindCost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut s = serializer.serialize_struct("KindCost", 10)?;
        s.serialize_field("kind", self.kind)?;
        s.serialize_field("event", self.event)?;
        s.serialize_field("events", &self.events)?;
        s.serialize_field("runs_per_event", &self.per_event(self.runs() as f64))?;
        s.serialize_field("ns_per_event", &self.per_event(self.nanos()))?;
        let net = self.per_event(self.net(self.nanos(), self.runs()));
        s.serialize_field("net_ns_per_event", &net)?;
        s.serialize_field("statistics_ns_per_run", &self.statistics_nanos)?;
        let also = self.also.iter().copied();
        s.serialize_field("also", &also.collect::<std::collections::BTreeMap<_, _>>())?;
        s.serialize_field("programs", &self.programs)?;
        s.serialize_field("meanwhile", &self.meanwhile)?;
        s.end()
    }
}

impl Serialize for ProgramCost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut s = serializer.serialize_struct("ProgramCost", 3)?;
        s.serialize_field("program", &self.program)?;
        s.serialize_field("runs", &self.runs)?;
        s.serialize_field("ns_per_run", &self.per_run())?;
        s.end()
    }
}

fn ratio(whole: f64, parts: u64) -> f64 {
    if parts == 0 {
        0.0
    } else {
        whole / parts as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_per_event_and_nothing_is_divided_by_zero() {
        let program = |program: &str, runs, nanos| ProgramCost {
            program: program.to_owned(),
            runs,
            nanos,
        };
        let mut cost = KindCost {
            kind: "park",
            event: "park",
            events: 10,
            statistics_nanos: 50.0,
            programs: vec![program("switch", 20, 3_000), program("waking", 10, 1_000)],
            meanwhile: vec![program("fault", 5, 500)],
            also: vec![("parks recognised", 10)],
        };
        let per_event = |cost: &KindCost| {
            (
                cost.per_event(cost.nanos()),
                cost.per_event(cost.net(cost.nanos(), cost.runs())),
            )
        };
        assert_eq!(per_event(&cost), (400.0, 250.0));
        assert_eq!(cost.programs.first().map(ProgramCost::per_run), Some(150.0));
        let mut table = Vec::new();
        cost.write(&mut table).expect("memory");
        let table = String::from_utf8(table).expect("text");
        let words = |line: usize| -> Vec<&str> {
            let line = table.lines().nth(line).unwrap_or_default();
            line.split_whitespace().collect()
        };
        assert_eq!(words(0), ["park", "(park)", "10", "3.00", "400", "250"]);
        assert_eq!(words(1), ["switch", "2.00", "300", "200", "150", "100"]);
        let fault = [
            "fault", "not", "in", "the", "sum", "0.50", "50", "25", "100", "50",
        ];
        assert_eq!(words(3), fault);
        assert_eq!(words(4), ["parks", "recognised", "1.00"]);
        cost.events = 0;
        assert_eq!(per_event(&cost), (0.0, 0.0));
        // An empty program is not measured to the nanosecond.
        assert_eq!(cost.net(10.0, 1), 0.0);
    }
}
