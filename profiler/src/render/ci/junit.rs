//! JUnit's XML, in the form that GitLab, Jenkins and GitHub's actions read: a test case for each
//! condition of `--fail-if`.

use crate::render::svg::xml;
use crate::render::text::headline;
use crate::render::{Options, display_name, display_path, duration, sanitize};
use crate::report::{CheckedCondition, ConditionSite, Report};
use std::io;

/// Writes the results.
///
/// # Errors
/// Those of writing to `out`.
pub(in crate::render) fn render(
    report: &Report,
    _: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let exe = sanitize(report.target.exe_name()).into_owned();
    let tests = report.conditions.len();
    let failures = report.conditions.iter().filter(|of| of.holds).count();
    let seconds = format!("{:.3}", report.duration_ns.0 as f64 / 1e9);
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"0\"");
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(
        out,
        "<testsuites name=\"holdup\" {counts} time=\"{seconds}\">"
    )?;
    // Without its fraction and zone, as the schema has it.
    let started = report.started_at.get(..19).unwrap_or_default();
    writeln!(
        out,
        "  <testsuite name=\"holdup: {}\" {counts} skipped=\"0\" time=\"{seconds}\" timestamp=\"{}\">",
        attribute(&exe),
        attribute(started)
    )?;
    for condition in &report.conditions {
        case(&exe, condition, out)?;
    }
    let (_, word, text) = headline(report);
    writeln!(
        out,
        "    <system-out>{}</system-out>",
        xml(&format!("{word}: {text}"))
    )?;
    writeln!(out, "  </testsuite>\n</testsuites>")
}

fn case(exe: &str, condition: &CheckedCondition, out: &mut dyn io::Write) -> io::Result<()> {
    let name = attribute(&sanitize(&condition.condition));
    let found = sanitize(&condition.found);
    write!(
        out,
        "    <testcase classname=\"holdup.{}\" name=\"{name}\" time=\"0\"",
        attribute(exe)
    )?;
    if !condition.holds {
        return writeln!(out, "/>");
    }
    writeln!(out, ">")?;
    writeln!(
        out,
        "      <failure message=\"{}\" type=\"{}\">{}",
        attribute(&found),
        condition.asks.name(),
        xml(&found)
    )?;
    for site in &condition.sites {
        writeln!(out, "{}", xml(&line_of(site)))?;
    }
    writeln!(out, "</failure>\n    </testcase>")
}

/// `app::reserve at src/ledger.rs:88: lock, 24.2 s, 2.00 s at the longest; instead: …`.
fn line_of(site: &ConditionSite) -> String {
    let at = match (&site.file, site.line) {
        (Some(file), Some(line)) => format!(" at {}:{line}", display_path(file)),
        _ => String::new(),
    };
    let advice = site.advice.as_ref();
    let advice = advice.map_or_else(String::new, |advice| format!("; instead: {}", advice.text));
    format!(
        "{}{at}: {}, {}, {} at the longest{advice}",
        display_name(&site.function),
        site.cause.name(),
        duration(site.total_ns),
        duration(site.max_ns)
    )
}

/// The value of an attribute, of text in which no control character is left.
fn attribute(text: &str) -> String {
    xml(text).replace('"', "&quot;").replace('\'', "&apos;")
}
