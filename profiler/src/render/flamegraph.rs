//! The flamegraph: an SVG of the time in which threads were blocked, by inferno.

use super::folded::{Folded, fold};
use super::palette::Kind;
use super::{Options, count, duration, sanitize};
use crate::recording::Losses;
use crate::report::Report;
use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, TextTruncateDirection};
use std::fmt::Write as _;
use std::io;

/// Writes the SVG: the same bytes for the same report and options.
///
/// The width of a frame is time in microseconds, its hue says whose code it is; a legend tells
/// which is which.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn render(report: &Report, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    draw(report, options, &options.title, &fold(report, options), out)
}

/// Draws folded stacks.
pub(super) fn draw(
    report: &Report,
    options: &Options,
    title: &str,
    folded: &Folded,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    if folded.lines.is_empty() {
        return empty(report, options, title, out);
    }
    let mut colors = PaletteMap::default();
    for (name, kind) in &folded.kinds {
        colors.insert(name, kind.color(name));
    }
    // The frame that inferno adds below all others has no name.
    colors.insert("", Color::new(225, 225, 225));
    let lines: Vec<String> = folded
        .lines
        .iter()
        .map(|(stack, micros)| format!("{stack} {micros}"))
        .collect();
    let mut settings = settings(title, subtitle(report), options);
    settings.palette_map = Some(&mut colors);
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut settings, lines.iter().map(String::as_str), &mut svg)?;
    with_legend(&svg, &legend(folded), out)
}

/// How every flamegraph is drawn.
pub(super) fn settings<'a>(
    title: &str,
    subtitle: String,
    options: &Options,
) -> flamegraph::Options<'a> {
    let mut settings = flamegraph::Options::default();
    settings.title = sanitize(title).into_owned();
    settings.subtitle = Some(subtitle);
    settings.count_name = "µs".to_owned();
    settings.name_type = "Frame:".to_owned();
    settings.bgcolors = Some(BackgroundColor::Flat(Color::new(255, 255, 255)));
    settings.deterministic = true;
    settings.min_width = options.min_width.clamp(0.0, 100.0);
    settings.text_truncate_direction = TextTruncateDirection::Right;
    settings
}

/// Program, length and losses: what one must know to trust the picture.
fn subtitle(report: &Report) -> String {
    let target = &report.target;
    let others = match report.targets.len() {
        0 | 1 => String::new(),
        2 => " and another process".to_owned(),
        n => format!(" and {} other processes", n - 1),
    };
    format!(
        "{} (pid {}){others}, {} from {}, {}",
        sanitize(target.exe_name()),
        target.pid,
        duration(report.duration_ns),
        report.started_at,
        lost(&report.losses)
    )
}

fn lost(losses: &Losses) -> String {
    let parts: Vec<String> = [
        (losses.events, "records lost"),
        (losses.stacks, "waits without a stack"),
        (losses.truncated, "stacks truncated"),
        (losses.unresolved, "frames without a name"),
        (losses.unknown_waits, "waits of unknown state"),
    ]
    .iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", count(*number)))
    .collect();
    if parts.is_empty() {
        "nothing lost".to_owned()
    } else {
        parts.join(", ")
    }
}

/// The hues of the frames that there are, in the top left corner, which inferno leaves empty.
fn legend(folded: &Folded) -> String {
    let mut legend = String::from("<g id=\"legend\">");
    let mut x = 10;
    for (kind, label) in Kind::LEGEND {
        if !folded.kinds.values().any(|other| *other == kind) {
            continue;
        }
        let Color { r, g, b } = kind.color(label);
        let written = write!(
            legend,
            "<rect x=\"{x}\" y=\"3\" width=\"8\" height=\"8\" fill=\"rgb({r},{g},{b})\"/>\
             <text x=\"{}\" y=\"10\" style=\"font-size:9px\">{label}</text>",
            x + 11
        );
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        // Six pixels hold a character of nine pixels' height in every monospaced font.
        x += 11 + 6 * label.len() + 8;
    }
    legend.push_str("</g>");
    legend
}

/// Writes `svg` with `legend` before the frames; inferno's script looks at the frames alone.
fn with_legend(svg: &[u8], legend: &str, out: &mut dyn io::Write) -> io::Result<()> {
    const FRAMES: &[u8] = b"<svg id=\"frames\"";
    let at = svg
        .windows(FRAMES.len())
        .position(|window| window == FRAMES)
        .unwrap_or(svg.len());
    let (head, frames) = svg.split_at(at);
    out.write_all(head)?;
    if !frames.is_empty() {
        out.write_all(legend.as_bytes())?;
    }
    out.write_all(frames)
}

/// inferno refuses to draw nothing, but a file that was asked for must come to be.
pub(super) fn empty(
    report: &Report,
    options: &Options,
    title: &str,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let states: Vec<&str> = options.states.iter().map(|state| state.name()).collect();
    writeln!(
        out,
        r#"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="120" viewBox="0 0 1200 120" xmlns="http://www.w3.org/2000/svg">
<rect width="100%" height="100%" fill="rgb(255,255,255)"/>
<g font-family="monospace" font-size="12" text-anchor="middle">
<text x="50%" y="24" font-size="17">{}</text>
<text x="50%" y="48">{}</text>
<text x="50%" y="84">no waits in these states: {}</text>
</g>
</svg>"#,
        xml(&sanitize(title)),
        xml(&subtitle(report)),
        xml(&states.join(", "))
    )
}

/// Text within an element.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
