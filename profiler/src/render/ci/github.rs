//! Workflow commands, which GitHub's actions take out of whatever a step prints and show beside the
//! source. Source of the form and of its escapes:
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>,
//! <https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts>.

use super::offence::{Offence, offences};
use crate::counted::counted;
use crate::render::text::headline;
use crate::render::{Options, sanitize};
use crate::report::Report;
use std::io;

/// Of a kind, as many as GitHub shows for a step.
const SHOWN: usize = 10;

/// Writes a command for each site that made a condition hold: errors. Of a recording of which nothing
/// was asked, the sites in which workers were blocked are warnings. The last line is the verdict.
///
/// # Errors
/// Those of writing to `out`.
pub(in crate::render) fn render(
    report: &Report,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let level = match report.conditions.is_empty() {
        true => "warning",
        false => "error",
    };
    let offences = offences(report, options);
    for offence in offences.iter().take(SHOWN) {
        site(level, offence, options, out)?;
    }
    if offences.len() > SHOWN {
        let more = counted((offences.len() - SHOWN) as u64, "more site", "more sites");
        writeln!(out, "::notice title=holdup::{more}: see the report")?;
    }
    let holding = report.conditions.iter().filter(|of| of.holds);
    let room = SHOWN.saturating_sub(offences.len());
    for condition in holding.filter(|of| of.sites.is_empty()).take(room) {
        let title = property(&format!("holdup: {}", sanitize(&condition.condition)));
        let found = data(&sanitize(&condition.found));
        writeln!(out, "::error title={title}::{found}")?;
    }
    let (_, word, text) = headline(report);
    let title = property(&format!("holdup: {word}"));
    writeln!(out, "::notice title={title}::{}", data(&text))
}

fn site(
    level: &str,
    offence: &Offence<'_>,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let place = offence
        .place(options)
        .map_or_else(String::new, |(file, line)| {
            format!("file={},line={line},", property(&file))
        });
    let title = match offence.reasons() {
        Some(reasons) => format!("holdup: {}", sanitize(&reasons)),
        None => "holdup: blocked worker".to_owned(),
    };
    let mut text = offence.text();
    if let Some(advice) = &offence.site.advice {
        text.push_str(&format!("\nInstead: {} {}", advice.text, advice.url));
    }
    let (title, text) = (property(&title), data(&text));
    writeln!(out, "::{level} {place}title={title}::{text}")
}

/// What stands after the second `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// The value of a property.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_value_early() {
        assert_eq!(property("a,b:c%\n"), "a%2Cb%3Ac%25%0A");
        assert_eq!(data("a::error::b\r\n100 %"), "a::error::b%0D%0A100 %25");
    }
}
