//! The page.

use super::markup::Text;
use super::{data, rest, sites, summary};
use crate::render::Options;
use crate::render::text::words;
use crate::report::Report;
use std::io;

/// Made from `profiler/web` by `cargo xtask web`.
const SCRIPT: &str = include_str!("page.js");
/// Likewise.
const STYLE: &str = include_str!("page.css");
/// Likewise: the policy, which names both by their hashes.
const POLICY: &str = include_str!("page.policy");

/// Writes the page.
///
/// # Errors
///
/// Those of writing to `out`.
pub(in crate::render) fn render(
    report: &Report,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let verdict = words::spoken(report).word;
    let program = summary::program(report);
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"generator\" content=\"{} {}\">\n\
         <title>{verdict} · {} · holdup</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#sites\">Skip to the sites</a>",
        POLICY.trim_end(),
        Text(&report.tool.name),
        Text(&report.tool.version),
        Text(&program)
    )?;
    summary::head(report, out)?;
    writeln!(out, "<main id=\"main\">")?;
    summary::verdict(report, out)?;
    summary::runtimes(report, out)?;
    writeln!(
        out,
        "<section id=\"timeline\" hidden></section>\n\
         <noscript><p class=\"note\">The timeline and the flamegraph need JavaScript; all else is here.</p></noscript>"
    )?;
    sites::table(report, out)?;
    writeln!(out, "<section id=\"flame\" hidden></section>")?;
    rest::all(report, out)?;
    writeln!(out, "</main>")?;
    footer(report, out)?;
    write!(out, "<script type=\"text/plain\" id=\"data\">")?;
    data::write(report, options, &sites::rows(report), out)?;
    writeln!(
        out,
        "</script>\n<script>{SCRIPT}</script>\n</body>\n</html>"
    )
}

fn footer(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(
        out,
        "<footer><p>{} {} · times are exact to the nanosecond; waits of at least {} are in the timeline one by \
         one, shorter ones in sums only</p></footer>",
        Text(&report.tool.name),
        Text(&report.tool.version),
        crate::render::duration(report.min_block_ns)
    )
}
