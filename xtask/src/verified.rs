//! What `holdup probe` says: how much of each kernel program the verifier looked at.

use crate::process;
use anyhow::{Context as _, Result};
use serde::Serialize;
use std::path::Path;
use std::process::Command;

/// A line of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verified {
    pub(crate) name: String,
    /// Over all paths; `None` where the kernel does not say (before Linux 5.16).
    pub(crate) instructions: Option<u64>,
    pub(crate) milliseconds: f64,
}

impl Verified {
    /// Reads `sched_switch 12345 instructions verified in 6.789 ms`.
    pub(crate) fn parse(line: &str) -> Option<Verified> {
        let mut words = line.split_ascii_whitespace();
        let (name, count) = (words.next()?.to_owned(), words.next()?);
        let rest: Vec<&str> = words.collect();
        let ["instructions", "verified", "in", milliseconds, "ms"] = rest.as_slice() else {
            return None;
        };
        Some(Verified {
            name,
            instructions: match count {
                "unknown" => None,
                count => Some(count.parse().ok()?),
            },
            milliseconds: milliseconds.parse().ok()?,
        })
    }

    /// Asks the running kernel.
    ///
    /// # Errors
    /// It refuses a program, or we are not permitted to load any.
    pub(crate) fn ask(holdup: &Path) -> Result<Vec<Verified>> {
        let text = process::output(Command::new(holdup).arg("probe"))?;
        text.lines()
            .map(|line| {
                Verified::parse(line).with_context(|| format!("`holdup probe` says {line:?}"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_probe_is_read() {
        let line = "sched_switch 12289 instructions verified in 42.490 ms";
        let verified = Verified::parse(line).expect("a line");
        assert_eq!(verified.name, "sched_switch");
        assert_eq!(verified.instructions, Some(12289));
        assert_eq!(verified.milliseconds, 42.49);
        let unknown = line.replace("12289", "unknown");
        assert_eq!(Verified::parse(&unknown).and_then(|v| v.instructions), None);
        assert_eq!(Verified::parse("sched_switch many"), None);
        assert_eq!(Verified::parse(&line.replace("12289", "many")), None);
    }
}
