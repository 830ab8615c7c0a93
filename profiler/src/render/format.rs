//! Which renderer writes what.

use super::{Options, flamegraph, folded, json, text, wakers, wall};
use crate::report::Report;
use std::io;
use std::path::Path;

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// For people, on a terminal.
    Text,
    /// For programs, schema 1.
    Json,
    /// Folded stacks, for `flamegraph.pl`, inferno, speedscope.
    Folded,
    /// A flamegraph.
    Svg,
    /// Folded stacks of waits with those who ended them.
    WakersFolded,
    /// A flamegraph of the same.
    WakersSvg,
    /// Folded stacks of all time: on a CPU, in line for one, blocked.
    WallFolded,
    /// A flamegraph of the same.
    WallSvg,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 8] = [
        Format::Text,
        Format::Json,
        Format::Folded,
        Format::Svg,
        Format::WakersFolded,
        Format::WakersSvg,
        Format::WallFolded,
        Format::WallSvg,
    ];

    /// The word used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
            Format::Folded => "folded",
            Format::Svg => "svg",
            Format::WakersFolded => "wakers-folded",
            Format::WakersSvg => "wakers-svg",
            Format::WallFolded => "wall-folded",
            Format::WallSvg => "wall-svg",
        }
    }

    /// The format that a file name stands for: `.txt`, `.json`, `.folded`, `.svg`, with `.wakers`
    /// or `.wall` before the last two; none of any other. `profile.firefox.json` and `profile.speedscope.json` are other programs' formats
    /// and not [`Format::Json`].
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        if name.ends_with(".firefox.json") || name.ends_with(".speedscope.json") {
            return None;
        }
        let (stem, extension) = name.rsplit_once('.')?;
        let kind = stem.rsplit('.').next()?;
        match (kind, extension) {
            ("wakers", "folded") => return Some(Format::WakersFolded),
            ("wakers", "svg") => return Some(Format::WakersSvg),
            ("wall", "folded") => return Some(Format::WallFolded),
            ("wall", "svg") => return Some(Format::WallSvg),
            _ => {}
        }
        match extension {
            "txt" => Some(Format::Text),
            "json" => Some(Format::Json),
            "folded" => Some(Format::Folded),
            "svg" => Some(Format::Svg),
            _ => None,
        }
    }
}

/// Writes `report` to `out` in `format`.
///
/// # Errors
///
/// Those of writing to `out`.
pub fn render(
    format: Format,
    report: &Report,
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    match format {
        Format::Text => text::render(report, options, out),
        Format::Json => json::render(report, options, out),
        Format::Folded => folded::render(report, options, out),
        Format::Svg => flamegraph::render(report, options, out),
        Format::WakersFolded => wakers::folded(report, options, out),
        Format::WakersSvg => wakers::svg(report, options, out),
        Format::WallFolded => wall::folded(report, options, out),
        Format::WallSvg => wall::svg(report, options, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_the_format() {
        for (path, format) in [
            ("out/report.json", Some(Format::Json)),
            ("REPORT.SVG", Some(Format::Svg)),
            ("a.b.folded", Some(Format::Folded)),
            ("out/wakers.svg", Some(Format::WakersSvg)),
            ("a.wakers.folded", Some(Format::WakersFolded)),
            ("a.wall.svg", Some(Format::WallSvg)),
            ("wall.folded", Some(Format::WallFolded)),
            ("firewall.svg", Some(Format::Svg)),
            ("wall.json", Some(Format::Json)),
            ("notes.txt", Some(Format::Text)),
            ("a.firefox.json", None),
            ("a.speedscope.json", None),
            ("profile.pb.gz", None),
            ("json", None),
            ("/", None),
        ] {
            assert_eq!(Format::from_path(Path::new(path)), format, "{path}");
        }
    }
}
