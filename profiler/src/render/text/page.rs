//! What the sections of the report share.

use super::line::{Line, cut_path, cut_right, width, wrap};
use super::paper::Paper;
use super::style::{DIM, PLAIN, SITE};
use crate::render::Options;
use crate::report::Report;
use anstyle::Style;
use std::io;
use std::ops::{Deref, DerefMut};

/// Narrower than this, nothing is readable any more.
pub(super) const MIN_WIDTH: usize = 40;
/// Columns in which the labels of a site's details begin, and the details themselves.
const LABELS: usize = 6;
pub(super) const DETAILS: usize = 16;

/// The report being written.
pub(super) struct Page<'a> {
    /// What to write.
    pub(super) report: &'a Report,
    /// The advice that is given already.
    advised: Vec<&'static str>,
    paper: Paper<'a>,
}

impl<'a> Deref for Page<'a> {
    type Target = Paper<'a>;

    fn deref(&self) -> &Paper<'a> {
        &self.paper
    }
}

impl DerefMut for Page<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.paper
    }
}

impl<'a> Page<'a> {
    /// An empty one.
    pub(super) fn new(
        report: &'a Report,
        options: &'a Options,
        out: &'a mut dyn io::Write,
    ) -> Page<'a> {
        Page {
            report,
            advised: Vec::new(),
            paper: Paper::new(MIN_WIDTH, options, out),
        }
    }
}

impl Page<'_> {
    /// `text` within `columns`, if it is to be cut at all, its end left out.
    pub(super) fn fit_right(&self, text: &str, columns: usize) -> String {
        self.fit(text, columns, cut_right)
    }

    /// Whether this advice was given before; from now on it was.
    pub(super) fn is_known_advice(&mut self, text: &'static str) -> bool {
        let known = self.advised.contains(&text);
        if !known {
            self.advised.push(text);
        }
        known
    }

    /// Ends the first line of a site, which `line` has begun: its function, and where that is, on
    /// the same line if it fits there.
    pub(super) fn site(
        &mut self,
        mut line: Line,
        function: &str,
        at: Option<String>,
    ) -> io::Result<()> {
        let room = self.width.saturating_sub(line.width());
        line.push(SITE, &self.fit_left(function, room));
        let beside = at
            .as_ref()
            .filter(|at| line.width() + 2 + width(at) <= self.width);
        if let Some(at) = beside {
            line.push(PLAIN, "  ").push(DIM, at);
            return self.put(&line);
        }
        self.put(&line)?;
        at.map_or(Ok(()), |at| self.detail("at", &at))
    }

    /// Writes one line of what is said of a site.
    pub(super) fn detail(&mut self, label: &str, text: &str) -> io::Result<()> {
        let mut line = self.line();
        line.pad_to(LABELS).push(DIM, label).pad_to(DETAILS);
        let room = self.width.saturating_sub(line.width());
        line.push(PLAIN, &self.fit(text, room, cut_path));
        self.put(&line)
    }

    /// Writes `label` and, beginning at column `indent`, `text` on as many lines as it needs.
    pub(super) fn labelled(
        &mut self,
        (style, label): (Style, &str),
        indent: usize,
        text: &str,
    ) -> io::Result<()> {
        let columns = self.width.saturating_sub(indent);
        for (index, part) in wrap(text, columns).iter().enumerate() {
            let mut line = self.line();
            if index == 0 {
                line.push(style, label);
            }
            line.pad_to(indent).push(PLAIN, part);
            self.put(&line)?;
        }
        Ok(())
    }
}
