//! What text is written on: lines of so many columns, coloured and spelled as the options say.

use super::ascii;
use super::line::{Line, cut_left, width};
use super::style::{DIM, HEADING, PLAIN};
use crate::render::Options;
use std::io;

/// Where lines go, and how.
pub(super) struct Paper<'a> {
    /// How.
    pub(super) options: &'a Options,
    /// Columns.
    pub(super) width: usize,
    out: &'a mut dyn io::Write,
}

impl<'a> Paper<'a> {
    /// An empty one, of `least` columns or more: with fewer, nothing on it could be read.
    pub(super) fn new(least: usize, options: &'a Options, out: &'a mut dyn io::Write) -> Paper<'a> {
        Paper {
            options,
            width: options.width.max(least),
            out,
        }
    }

    /// A new line, coloured as the options say.
    pub(super) const fn line(&self) -> Line {
        Line::new(self.options.color)
    }

    /// Writes a line.
    pub(super) fn put(&mut self, line: &Line) -> io::Result<()> {
        let text = line.finish();
        if self.options.ascii {
            return writeln!(self.out, "{}", ascii::spelled(text));
        }
        writeln!(self.out, "{text}")
    }

    /// Writes an empty line.
    pub(super) fn blank(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    /// Writes an empty line and a heading, with an explanation if that fits.
    pub(super) fn heading(&mut self, heading: &str, explanation: &str) -> io::Result<()> {
        self.blank()?;
        let mut line = self.line();
        line.push(HEADING, heading);
        if line.width() + 2 + width(explanation) <= self.width {
            line.push(PLAIN, "  ").push(DIM, explanation);
        }
        self.put(&line)
    }

    /// `text` within `columns`, if it is to be cut at all, its beginning left out.
    pub(super) fn fit_left(&self, text: &str, columns: usize) -> String {
        self.fit(text, columns, cut_left)
    }

    /// Likewise, as `cut` leaves something out.
    pub(super) fn fit(&self, text: &str, columns: usize, cut: fn(&str, usize) -> String) -> String {
        if self.options.cut {
            cut(text, columns)
        } else {
            text.to_owned()
        }
    }
}
