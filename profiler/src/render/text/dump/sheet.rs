//! What the sections of a dump share.

use super::DumpOptions;
use crate::render::Options;
use crate::render::text::line::{Line, cut_right, width, wrap};
use crate::render::text::page::MIN_WIDTH;
use crate::render::text::paper::Paper;
use crate::render::text::style::{DIM, PLAIN, SITE};
use crate::report::dump::{Dump, DumpThread};
use crate::units::{Pid, Tid};
use anstyle::Style;
use std::collections::BTreeMap;
use std::io;
use std::ops::{Deref, DerefMut};

/// With less room, a function has a line of its own.
const LEAST: usize = 16;
/// Columns in which the labels of a thread's details begin, and the details themselves.
pub(super) const LABELS: usize = 6;
pub(super) const DETAILS: usize = 16;

/// The dump being written.
pub(super) struct Sheet<'a> {
    pub(super) dump: &'a Dump,
    pub(super) shown: DumpOptions,
    threads: BTreeMap<(Pid, Tid), &'a DumpThread>,
    paper: Paper<'a>,
}

impl<'a> Deref for Sheet<'a> {
    type Target = Paper<'a>;

    fn deref(&self) -> &Paper<'a> {
        &self.paper
    }
}

impl DerefMut for Sheet<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.paper
    }
}

impl<'a> Sheet<'a> {
    /// An empty one.
    pub(super) fn new(
        dump: &'a Dump,
        shown: DumpOptions,
        options: &'a Options,
        out: &'a mut dyn io::Write,
    ) -> Sheet<'a> {
        let threads = dump.threads.iter();
        Sheet {
            dump,
            shown,
            threads: threads
                .map(|thread| ((thread.pid, thread.tid), thread))
                .collect(),
            paper: Paper::new(MIN_WIDTH, options, out),
        }
    }

    /// A thread of a process.
    pub(super) fn thread(&self, pid: Pid, tid: Tid) -> Option<&'a DumpThread> {
        self.threads.get(&(pid, tid)).copied()
    }

    /// Writes an empty line and a heading, cut to the width, with an explanation if that fits.
    pub(super) fn heading(&mut self, heading: &str, explanation: &str) -> io::Result<()> {
        let heading = cut_right(heading, self.width);
        self.paper.heading(&heading, explanation)
    }

    /// Ends a line that `line` has begun by a function and where that is, on the same line if it
    /// fits there.
    pub(super) fn site(
        &mut self,
        mut line: Line,
        function: &str,
        at: Option<&str>,
    ) -> io::Result<()> {
        let room = self.width.saturating_sub(line.width());
        if room < LEAST {
            self.put(&line)?;
            self.detail("in", function)?;
            return at.map_or(Ok(()), |at| self.detail("at", at));
        }
        line.push(SITE, &self.fit_left(function, room));
        match at {
            Some(at) if line.width() + 2 + width(at) <= self.width => {
                line.push(PLAIN, "  ").push(DIM, at);
                self.put(&line)
            }
            Some(at) => {
                self.put(&line)?;
                self.detail("at", at)
            }
            None => self.put(&line),
        }
    }

    /// Writes what is said of a thread, on as many lines as it needs.
    pub(super) fn detail(&mut self, label: &str, text: &str) -> io::Result<()> {
        let label = format!("{:LABELS$}{label}", "");
        self.labelled((DIM, &label), DETAILS, text)
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
            line.pad_to(indent)
                .push(PLAIN, &self.fit_left(part, columns));
            self.put(&line)?;
        }
        Ok(())
    }
}
