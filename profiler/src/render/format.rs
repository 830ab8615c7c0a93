//! The forms that a report can take: one line each.

use super::ci::{codequality, github, junit};
use super::export::{firefox, ndjson, otlp, pprof, speedscope, trace};
use super::{Options, blame, flamegraph, folded, html, json, text, wakers, wall};
use crate::report::{Keep, Report};
use std::ffi::OsStr;
use std::io;
use std::path::Path;

/// Writes a report. Errors are those of writing.
type Render = fn(&Report, &Options, &mut dyn io::Write) -> io::Result<()>;

/// `Variant(word on the command line, extension of files, what it is, renderer)`.
macro_rules! formats {
    ($($variant:ident($name:literal, $extension:literal, $about:literal, $render:path),)*) => {
        /// The form of a report.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Format {
            $(#[doc = $about] $variant,)*
        }

        impl Format {
            /// Every format.
            pub const ALL: [Format; [$($name),*].len()] = [$(Format::$variant),*];

            /// The word used on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Format::$variant => $name,)* }
            }

            /// How names of its files end, without the first dot.
            #[must_use]
            pub const fn extension(self) -> &'static str {
                match self { $(Format::$variant => $extension,)* }
            }

            /// What it is, in some words.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Format::$variant => $about,)* }
            }

            fn renderer(self) -> Render {
                match self { $(Format::$variant => $render,)* }
            }
        }
    };
}

formats! {
    Text("text", "txt", "Report for people", text::render),
    Html("html", "html", "Report for browsers, with a timeline: one page that needs no network", html::render),
    Json("json", "json", "Report for programs, with a versioned schema", json::render),
    Folded("folded", "folded", "Folded stacks of blocked time, one per line", folded::render),
    Svg("svg", "svg", "Flamegraph of blocked time", flamegraph::render),
    WakersFolded("wakers-folded", "wakers.folded", "Folded stacks of waits and who ended them", wakers::folded),
    WakersSvg("wakers-svg", "wakers.svg", "Flamegraph of waits and who ended them", wakers::svg),
    WallFolded("wall-folded", "wall.folded", "Folded stacks of all time: running, runnable, blocked", wall::folded),
    WallSvg("wall-svg", "wall.svg", "Flamegraph of all time: running, runnable, blocked", wall::svg),
    BlameFolded("blame-folded", "blame.folded", "Folded stacks of waits for other threads, and what those did", blame::folded),
    BlameSvg("blame-svg", "blame.svg", "Flamegraph of waits for other threads, and what those did", blame::svg),
    Pprof("pprof", "pb.gz", "Blocked time and waits with labels, for pprof", pprof::render),
    Speedscope("speedscope", "speedscope.json", "Blocked time, and each thread's waits by time, for speedscope", speedscope::render),
    Firefox("firefox", "firefox.json", "Waits and polls of each thread by time, for the Firefox Profiler", firefox::render),
    Trace("trace", "trace.json", "Waits and polls of each thread by time, for Perfetto or Chrome", trace::render),
    Otlp("otlp", "otlp", "The same as pprof's, as a profile of OpenTelemetry (in development)", otlp::render),
    Junit("junit", "junit.xml", "Results of --fail-if as JUnit's test cases", junit::render),
    Github("github", "github.txt", "Sites as GitHub's workflow commands, which annotate the source", github::render),
    CodeQuality("codequality", "codequality.json", "Sites as GitLab's code quality report", codequality::render),
    Ndjson("ndjson", "ndjson", "Waits and long polls, one JSON object a line, while they are recorded", ndjson::render),
}

impl Format {
    /// What of a recording has to be kept one by one for it.
    #[must_use]
    pub const fn keep(self) -> Keep {
        let (sums, singles) = match self {
            Format::Pprof | Format::Otlp => (true, false),
            Format::Html
            | Format::Speedscope
            | Format::Firefox
            | Format::Trace
            | Format::Ndjson => (false, true),
            _ => (false, false),
        };
        Keep { sums, singles }
    }

    /// Whether it is no text to be read, which a terminal should not get.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        matches!(self, Format::Html | Format::Pprof | Format::Otlp)
    }

    /// The format that a file name stands for, by the longest of the extensions that it ends
    /// with; `wakers.svg` is such a name, too. None of any other.
    #[must_use]
    pub fn of_file_name(name: &OsStr) -> Option<Format> {
        let name = Path::new(name).file_name()?.to_string_lossy();
        let name = name.to_ascii_lowercase();
        let ends_with = |extension: &str| {
            name.strip_suffix(extension).is_some_and(|stem| {
                stem.ends_with('.') || stem.is_empty() && extension.contains('.')
            })
        };
        let fitting = Format::ALL.into_iter();
        fitting
            .filter(|format| ends_with(format.extension()))
            .max_by_key(|format| format.extension().len())
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
    format.renderer()(report, options, out)
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
            ("a.blame.svg", Some(Format::BlameSvg)),
            ("firewall.svg", Some(Format::Svg)),
            ("wall.json", Some(Format::Json)),
            ("notes.txt", Some(Format::Text)),
            ("a.firefox.json", Some(Format::Firefox)),
            ("a.speedscope.json", Some(Format::Speedscope)),
            ("trace.json", Some(Format::Trace)),
            ("profile.pb.gz", Some(Format::Pprof)),
            ("profile.gz", None),
            ("json", None),
            ("svg", None),
            ("/", None),
            ("..", None),
        ] {
            assert_eq!(Format::of_file_name(OsStr::new(path)), format, "{path}");
        }
    }

    #[test]
    fn words_and_extensions_are_unique() {
        for (i, one) in Format::ALL.iter().enumerate() {
            for other in Format::ALL.iter().skip(i + 1) {
                assert_ne!(one.name(), other.name());
                assert_ne!(one.extension(), other.extension());
            }
        }
    }
}
