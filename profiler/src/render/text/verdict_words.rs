//! What a verdict is put into.

use anstyle::Style;

/// A verdict in words.
pub(super) struct Words {
    pub(super) style: Style,
    pub(super) word: &'static str,
    pub(super) text: String,
    /// Index in [`Report::sites`](crate::report::Report::sites) of the site to name.
    pub(super) site: Option<usize>,
}

impl Words {
    pub(super) fn new(style: Style, word: &'static str, text: String) -> Words {
        Words {
            style,
            word,
            text,
            site: None,
        }
    }

    pub(super) fn with_site(self, site: Option<usize>) -> Words {
        Words { site, ..self }
    }
}
