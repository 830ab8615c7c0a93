//! Pieces of HTML.

use crate::render::sanitize;
use std::fmt::{self, Write as _};

/// Text from anywhere, safe in elements and in quoted attributes.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in sanitize(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A part of a bar.
pub(super) struct Segment {
    /// Of the whole, 0 to 1.
    pub(super) share: f64,
    /// The class that gives it its colour.
    pub(super) class: &'static str,
    /// What the pointer is told.
    pub(super) title: String,
}

/// Width of a bar in its own units.
const WIDTH: f64 = 1_000.0;

/// A bar of segments, for those who see it; what it shows must stand beside it as text.
pub(super) struct Bar<'a>(pub(super) &'a [Segment]);

impl fmt::Display for Bar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "<svg class=\"bar\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\">",
        )?;
        let mut x = 0.0;
        for segment in self.0 {
            let width = segment.share.clamp(0.0, 1.0) * WIDTH;
            if width > 0.0 {
                let (class, title) = (segment.class, Text(&segment.title));
                write!(
                    f,
                    "<rect class=\"{class}\" x=\"{x:.2}\" width=\"{width:.2}\" height=\"10\">\
                     <title>{title}</title></rect>"
                )?;
            }
            x += width;
        }
        f.write_str("</svg>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_text() {
        let hostile = "</script><img src=x onerror='a()'>\"&\u{202e}\u{1b}";
        assert_eq!(
            Text(hostile).to_string(),
            "&lt;/script&gt;&lt;img src=x onerror=&#39;a()&#39;&gt;&quot;&amp;\\u{202e}\\x1b"
        );
        assert_eq!(Text("größer").to_string(), "größer");
    }

    #[test]
    fn a_bar_has_its_parts_side_by_side() {
        let segment = |share, title: &str| Segment {
            share,
            class: "s-idle",
            title: title.to_owned(),
        };
        let bar = Bar(&[segment(0.25, "<a>"), segment(0.0, "b"), segment(0.75, "c")]).to_string();
        assert!(bar.contains("x=\"0.00\" width=\"250.00\""), "{bar}");
        assert!(bar.contains("x=\"250.00\" width=\"750.00\""), "{bar}");
        assert!(
            bar.contains("<title>&lt;a&gt;</title>") && !bar.contains(">b<"),
            "{bar}"
        );
    }
}
