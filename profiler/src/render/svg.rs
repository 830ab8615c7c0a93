//! What is added to inferno's SVG: colours for dark screens, a legend, and where the code of a frame is.

use super::display_path;
use super::folded::Folded;
use super::palette::Kind;
use inferno::flamegraph::color::Color;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

/// Frames are light with black names in both themes; what is around them is not.
const DARK: &str = "
@media (prefers-color-scheme: dark) {
svg > rect { fill:#1b1b1f; }
text, #title { fill:#dcdce0; }
#frames text { fill:#000; }
#frames > *:hover { stroke:#fff; }
}
";

/// Places named one by one in a tooltip.
const PLACES: usize = 3;

/// Where inferno's frames begin. Its script looks at what is in there alone.
const FRAMES: &str = "<svg id=\"frames\"";
/// The end of its styles.
const STYLE: &str = "</style>";

/// Writes inferno's `svg` with all that.
pub(super) fn decorate(svg: &str, folded: &Folded, out: &mut dyn io::Write) -> io::Result<()> {
    let (head, frames) = svg.split_at(svg.find(FRAMES).unwrap_or(svg.len()));
    let (style, rest) = head.split_at(head.find(STYLE).unwrap_or(0));
    out.write_all(style.as_bytes())?;
    if !style.is_empty() {
        out.write_all(DARK.as_bytes())?;
    }
    out.write_all(rest.as_bytes())?;
    if !frames.is_empty() {
        out.write_all(legend(folded).as_bytes())?;
    }
    with_places(frames, folded, out)
}

/// Writes the frames, each title with the lines of its frame at the end of the parentheses: inferno's
/// script takes the frame's name for what stands before those.
fn with_places(frames: &str, folded: &Folded, out: &mut dyn io::Write) -> io::Result<()> {
    const TITLE: &str = "<title>";
    let mut rest = frames;
    while let Some(at) = rest.find(TITLE) {
        let (before, title) = rest.split_at(at + TITLE.len());
        let (title, after) = title.split_at(title.find("</title>").unwrap_or(title.len()));
        out.write_all(before.as_bytes())?;
        match places_of(title, folded).zip(title.strip_suffix(')')) {
            Some((places, title)) => write!(out, "{title}, {})", xml(&places))?,
            None => out.write_all(title.as_bytes())?,
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

/// `at src/store.rs:88` of a frame by its title.
fn places_of(title: &str, folded: &Folded) -> Option<String> {
    let (name, _) = title.rsplit_once(" (")?;
    let name = plain(name);
    // inferno takes the marks off.
    let marked = ["", "_[i]", "_[k]"].map(|mark| format!("{name}{mark}"));
    let mut places = marked.iter().filter_map(|name| folded.places.get(name));
    let first = places.next()?;
    let all: Vec<&(Arc<str>, u32)> = first.iter().chain(places.flatten()).collect();
    let mut text = "at ".to_owned();
    for (index, (file, line)) in all.iter().take(PLACES).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        // A parenthesis would end the name for inferno's script.
        let file = display_path(file).replace(['(', ')'], "_");
        let written = write!(text, "{comma}{file}:{line}");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    if all.len() > PLACES {
        let more = write!(text, " and {} more", all.len() - PLACES);
        debug_assert!(more.is_ok(), "writing to a string cannot fail");
    }
    Some(text)
}

/// The hues of the frames that there are, in the top left corner, which inferno leaves empty.
fn legend(folded: &Folded) -> String {
    let mut legend = String::from("<g id=\"legend\">");
    let mut x = 10;
    let there: Vec<Kind> = folded.kinds.values().copied().collect();
    for (kind, label) in Kind::legend(&there) {
        let Color { r, g, b } = kind.color(label);
        let written = write!(
            legend,
            "<rect x=\"{x}\" y=\"1\" width=\"8\" height=\"8\" fill=\"rgb({r},{g},{b})\"/>\
             <text x=\"{}\" y=\"8\" style=\"font-size:9px\">{label}</text>",
            x + 11
        );
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
        // Six pixels hold a character of nine pixels' height in every monospaced font.
        x += 11 + 6 * label.len() + 8;
    }
    legend.push_str("</g>");
    legend
}

/// Text within an element.
pub(super) fn xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The text of an element.
fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let text = text.replace("&quot;", "\"").replace("&apos;", "'");
    Cow::Owned(text.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(name: &str, lines: &[u32]) -> Folded {
        let places = lines
            .iter()
            .map(|line| ("src/a(1).rs".into(), *line))
            .collect();
        Folded {
            lines: [(name.to_owned(), 5)].into(),
            kinds: [(name.to_owned(), Kind::Application { inlined: true })].into(),
            places: [(name.to_owned(), places)].into(),
        }
    }

    fn decorated(svg: &str, folded: &Folded) -> String {
        let mut out = Vec::new();
        decorate(svg, folded, &mut out).expect("memory");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn titles_say_where_the_code_is() {
        let svg = "<style>a</style><svg id=\"frames\"><title>a &lt;b&gt; (5 µs, 100.00%)</title>";
        let text = decorated(svg, &folded("a <b>_[i]", &[7]));
        assert!(
            text.contains("<title>a &lt;b&gt; (5 µs, 100.00%, at src/a_1_.rs:7)</title>"),
            "{text}"
        );
        let text = decorated(svg, &folded("a <b>", &[1, 2, 3, 4, 5]));
        assert!(
            text.contains(":1, src/a_1_.rs:2, src/a_1_.rs:3 and 2 more)</title>"),
            "{text}"
        );
        let text = decorated(svg, &folded("another", &[1]));
        assert!(
            text.contains("<title>a &lt;b&gt; (5 µs, 100.00%)</title>"),
            "{text}"
        );
    }

    #[test]
    fn colours_and_legend_have_their_places() {
        let svg = "<style>a</style><g/><svg id=\"frames\"></svg>";
        let text = decorated(svg, &folded("x", &[]));
        let at = |what: &str| text.find(what).expect(what);
        assert!(at("prefers-color-scheme") < at("</style>"));
        assert!(at("<g/>") < at("id=\"legend\"") && at("id=\"legend\"") < at("id=\"frames\""));
        assert!(text.contains(">inlined</text>") && !text.contains(">tokio</text>"));
    }
}
