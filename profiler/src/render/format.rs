//! Which renderer writes what.

use super::{Options, flamegraph, folded, json, text};
use crate::model::Report;
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
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Format::Text, Format::Json, Format::Folded, Format::Svg];

    /// The word used on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
            Format::Folded => "folded",
            Format::Svg => "svg",
        }
    }

    /// The format that a file name stands for: `.txt`, `.json`, `.folded`, `.svg`; none of any
    /// other. `profile.firefox.json` and `profile.speedscope.json` are other programs' formats
    /// and not [`Format::Json`].
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Format> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        if name.ends_with(".firefox.json") || name.ends_with(".speedscope.json") {
            return None;
        }
        match name.rsplit_once('.')?.1 {
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
