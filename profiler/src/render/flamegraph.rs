//! The flamegraph: an SVG of the time in which threads were blocked, by inferno.

use super::folded::{Folded, fold};
use super::svg::{decorate, xml};
use super::{Options, count, duration, sanitize};
use crate::recording::Losses;
use crate::report::Report;
use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{self, Direction, TextTruncateDirection};
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
    let mut settings = settings(title, subtitle(report, options), options);
    settings.palette_map = Some(&mut colors);
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut settings, lines.iter().map(String::as_str), &mut svg)?;
    let svg = String::from_utf8(svg).map_err(io::Error::other)?;
    decorate(&svg, folded, out)
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
    if options.icicle {
        settings.direction = Direction::Inverted;
    }
    settings
}

/// Program, length, losses, and what was chosen: what one must know to trust the picture.
fn subtitle(report: &Report, options: &Options) -> String {
    let target = &report.target;
    let others = match report.targets.len() {
        0 | 1 => String::new(),
        2 => " and another process".to_owned(),
        n => format!(" and {} other processes", n - 1),
    };
    let chosen = if options.states == Options::default().states {
        String::new()
    } else {
        let states: Vec<&str> = options.states.iter().map(|state| state.name()).collect();
        format!(", only {}", states.join(" and "))
    };
    let part = report.part.map_or_else(String::new, |part| {
        format!(
            ", {} to {} of it",
            duration(part.from_ns),
            duration(part.to_ns)
        )
    });
    let filter = report.filter.as_ref().map_or_else(String::new, |filter| {
        format!(", only {}", sanitize(&filter.to_string()))
    });
    format!(
        "{} (pid {}){others}, {} from {}{part}{filter}, {}{chosen}",
        sanitize(target.exe_name()),
        target.pid,
        duration(report.duration_ns),
        report.started_at,
        lost(&report.losses)
    )
}

pub(super) fn lost(losses: &Losses) -> String {
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
<style type="text/css">@media (prefers-color-scheme: dark) {{ rect {{ fill:#1b1b1f; }} text {{ fill:#dcdce0; }} }}</style>
<rect width="100%" height="100%" fill="rgb(255,255,255)"/>
<g font-family="monospace" font-size="12" text-anchor="middle">
<text x="50%" y="24" font-size="17">{}</text>
<text x="50%" y="48">{}</text>
<text x="50%" y="84">no waits in these states: {}</text>
</g>
</svg>"#,
        xml(&sanitize(title)),
        xml(&subtitle(report, options)),
        xml(&states.join(", "))
    )
}
