//! GitLab's code quality report: an array of issues with a place in the sources each. Source:
//! <https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format>.

use super::offence::{Offence, offences};
use crate::render::{Options, json, sanitize};
use crate::report::Report;
use serde::Serialize;
use std::collections::HashMap;
use std::io;

#[derive(Serialize)]
struct Issue {
    description: String,
    check_name: String,
    /// The same for the same place in the next recording, also where lines have moved.
    fingerprint: String,
    severity: Severity,
    location: Location,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Minor,
    Major,
    Critical,
}

#[derive(Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: u32,
}

/// Writes the issues: of each site that made a condition hold, or of those in which workers were blocked
/// where nothing was asked. One without a line has no place here.
///
/// # Errors
/// Those of writing to `out`.
pub(in crate::render) fn render(
    report: &Report,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let mut known: HashMap<u128, u32> = HashMap::new();
    let issues: Vec<Issue> = offences(report, options)
        .iter()
        .filter_map(|offence| issue(offence, options, &mut known))
        .collect();
    json::write(&issues, out)
}

fn issue(
    offence: &Offence<'_>,
    options: &Options,
    known: &mut HashMap<u128, u32>,
) -> Option<Issue> {
    let (path, begin) = offence.place(options)?;
    let site = &offence.site;
    let check_name = format!("holdup-{}", site.cause.name());
    // No name has this byte: what ends one cannot begin another.
    let parts = [&check_name, &*site.function, &path];
    let key = fnv(parts.iter().flat_map(|part| part.bytes().chain([0xff])));
    // A second place in one function is another issue.
    let times = known
        .entry(key)
        .and_modify(|times| *times += 1)
        .or_insert(0);
    let fingerprint = format!("{:032x}", key.wrapping_add(u128::from(*times)));
    let mut description = offence.text();
    if let Some(reasons) = offence.reasons() {
        description.push_str(&format!(" ({})", sanitize(&reasons)));
    }
    if let Some(advice) = &site.advice {
        description.push_str(&format!(". Instead: {}", advice.text));
    }
    Some(Issue {
        description,
        check_name,
        fingerprint,
        severity: match (offence.conditions.is_empty(), offence.is_grave()) {
            (true, _) => Severity::Minor,
            (false, false) => Severity::Major,
            (false, true) => Severity::Critical,
        },
        location: Location {
            path,
            lines: Lines { begin },
        },
    })
}

/// FNV-1a of 128 bits: stable, and it has nothing to keep secret.
fn fnv(bytes: impl Iterator<Item = u8>) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0100_0000_0000_0000_0000_013b;
    bytes.fold(OFFSET, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::fnv;

    /// By the test vectors of its authors.
    #[test]
    fn hashes_are_those_of_the_algorithm() {
        assert_eq!(fnv("".bytes()), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv("a".bytes()), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
