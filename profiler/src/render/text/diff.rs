//! Two recordings compared, on a terminal.

use super::header::headline;
use super::line::{Line, cut_left, cut_right, wrap};
use super::paper::Paper;
use super::style::{BAD, DIM, GOOD, HEADING, PLAIN, SITE};
use crate::counted::counted;
use crate::render::{Options, display_name, display_path, duration, percent, sanitize};
use crate::report::Report;
use crate::report::diff::{Change, Diff, Measure, Side, SiteChange};
use crate::runtime::State;
use crate::units::Nanos;
use anstyle::Style;
use std::io;

/// Narrower than this, the columns have no room.
const MIN_WIDTH: usize = 60;
/// Where the figures of the two recordings begin and how wide they are.
const FIGURES: usize = 18;
const COLUMN: usize = 14;
/// The columns of a site: its change, and a time each.
const CHANGE: usize = 9;
const TIME: usize = 11;
/// Where what is said of a site begins.
const SITES: usize = CHANGE + 3 * TIME + 2;

/// Writes what has changed: the verdicts, the workers, the sites.
///
/// # Errors
/// Those of writing to `out`.
pub fn render(
    diff: &Diff,
    (before, after): (&Report, &Report),
    options: &Options,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let mut page = Page(Paper::new(MIN_WIDTH, options, out));
    page.recording("before", &diff.before, before)?;
    page.recording("after", &diff.after, after)?;
    page.filter(diff)?;
    page.workers(diff)?;
    page.sites(diff)
}

struct Page<'a>(Paper<'a>);

impl Page<'_> {
    fn put(&mut self, fill: impl FnOnce(&mut Line)) -> io::Result<()> {
        let mut line = self.0.line();
        fill(&mut line);
        self.0.put(&line)
    }

    fn recording(&mut self, word: &str, side: &Side, report: &Report) -> io::Result<()> {
        let name = sanitize(report.target.exe_name()).into_owned();
        let file = display_path(&side.file);
        let part = side.part.map_or_else(String::new, |part| {
            format!(
                " from {} of {}",
                duration(part.from_ns),
                duration(part.of_ns)
            )
        });
        let facts = format!(
            "{file} · {name} · {}{part} · {}",
            duration(side.duration_ns),
            side.started_at.replace('T', " ").replace(".000Z", "Z")
        );
        let room = self.0.width.saturating_sub(10);
        let facts = self.0.fit(&facts, room, cut_right);
        self.put(|line| {
            line.push(HEADING, word).pad_to(10).push(DIM, &facts);
        })?;
        let (style, verdict, text) = headline(report);
        let verdict_width = verdict.len() + 2;
        let room = room.saturating_sub(verdict_width);
        for (index, part) in wrap(&text, room).iter().enumerate() {
            self.put(|line| {
                line.pad_to(10);
                if index == 0 {
                    line.push(style, verdict);
                }
                line.pad_to(10 + verdict_width).push(PLAIN, part);
            })?;
        }
        if side.lossy {
            let text = "something was lost: holdup report says what";
            self.put(|line| {
                line.pad_to(10).push(DIM, text);
            })?;
        }
        self.0.blank()
    }

    fn filter(&mut self, diff: &Diff) -> io::Result<()> {
        let Some(filter) = &diff.filter else {
            return Ok(());
        };
        let text = format!(
            "{}. Verdicts and workers are of everything.",
            sanitize(&filter.to_string())
        );
        let room = self.0.width.saturating_sub(10);
        for (index, part) in wrap(&text, room).iter().enumerate() {
            let word = if index == 0 { "only" } else { "" };
            self.put(|line| {
                line.push(HEADING, word).pad_to(10).push(PLAIN, part);
            })?;
        }
        self.0.blank()
    }

    fn workers(&mut self, diff: &Diff) -> io::Result<()> {
        self.put(|line| {
            line.push(HEADING, "Workers").pad_to(FIGURES);
            line.push_right(DIM, "before", COLUMN)
                .push_right(DIM, "after", COLUMN);
        })?;
        let (old, new) = (&diff.before, &diff.after);
        let share = |of: fn(&Side) -> f64| [of(old), of(new)].map(percent);
        let time = |time: Nanos| match time {
            Nanos::ZERO => "none".to_owned(),
            time => duration(time),
        };
        let a_second = |per_second: Nanos| match per_second {
            Nanos::ZERO => time(per_second),
            per_second => format!("{}/s", time(per_second)),
        };
        let rows = [
            ("blocked", share(|side| side.workers.blocked)),
            ("running", share(|side| side.workers.running)),
            ("waiting CPU", share(|side| side.workers.runnable)),
            ("idle", share(|side| side.workers.idle)),
            (
                "starved",
                [old, new].map(|side| a_second(side.starved_ns_per_second)),
            ),
            (
                "longest starved",
                [old, new].map(|side| time(side.starved_max_ns)),
            ),
            (
                "long polls",
                [old, new].map(|side| format!("{:.1}/s", side.long_polls_per_second)),
            ),
        ];
        for (name, [before, after]) in rows {
            self.put(|line| {
                line.push(PLAIN, "  ").push(PLAIN, name).pad_to(FIGURES);
                line.push_right(PLAIN, &before, COLUMN);
                line.push_right(PLAIN, &after, COLUMN);
            })?;
        }
        self.0.blank()
    }

    fn sites(&mut self, diff: &Diff) -> io::Result<()> {
        let what = match diff.by {
            Measure::PerSecond => "blocked time in a second of the recording",
            Measure::PerWait => "blocked time of one wait",
        };
        let title = format!("Sites by {what}");
        self.put(|line| {
            line.push(HEADING, &title);
        })?;
        let blocked = |site: &&SiteChange| site.state == State::Blocked;
        let changed = |site: &&SiteChange| site.change != Change::Same;
        let own: Vec<_> = diff.sites.iter().filter(blocked).collect();
        let listed: Vec<_> = own.iter().copied().filter(changed).collect();
        if !listed.is_empty() {
            self.put(|line| {
                line.pad_to(CHANGE);
                for word in ["before", "after", "difference"] {
                    line.push_right(DIM, word, TIME);
                }
            })?;
        }
        for site in listed.iter().take(self.0.options.max_sites) {
            self.site(diff.by, site)?;
        }
        let more = listed.len().saturating_sub(self.0.options.max_sites);
        let same = own.len() - listed.len();
        let others = diff
            .sites
            .iter()
            .filter(|site| !blocked(site))
            .filter(changed)
            .count();
        let count = |number: usize, one: &str, many: &str| {
            (number > 0).then(|| counted(number as u64, one, many))
        };
        let rest: Vec<String> = [
            count(more, "more site has changed", "more sites have changed"),
            count(same, "site is the same", "sites are the same"),
            count(
                others,
                "site outside task polls has changed",
                "sites outside task polls have changed",
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        let text = match (rest.is_empty(), listed.is_empty()) {
            (true, true) => "no worker was blocked in a task poll, before nor after".to_owned(),
            (true, false) => return Ok(()),
            (false, _) => format!("{}; -f json has all", rest.join(", ")),
        };
        for part in wrap(&text, self.0.width.saturating_sub(2)) {
            self.put(|line| {
                line.push(PLAIN, "  ").push(DIM, &part);
            })?;
        }
        Ok(())
    }

    fn site(&mut self, by: Measure, site: &SiteChange) -> io::Result<()> {
        let time = |side: &Option<crate::report::diff::SiteSide>| {
            let time = side.as_ref().map(|side| side.measured(by));
            time.map_or_else(|| "-".to_owned(), duration)
        };
        let sign = if site.difference_ns < 0 { "-" } else { "+" };
        let size = duration(Nanos(site.difference_ns.unsigned_abs()));
        let difference = format!("{sign}{size}");
        let style = style(site.change);
        let room = self.0.width.saturating_sub(SITES);
        let function = self.0.fit(&display_name(&site.function), room, cut_left);
        self.put(|line| {
            line.push(PLAIN, "  ")
                .push(style, site.change.name())
                .pad_to(CHANGE);
            line.push_right(PLAIN, &time(&site.before), TIME);
            line.push_right(PLAIN, &time(&site.after), TIME);
            line.push_right(style, &difference, TIME);
            line.pad_to(SITES).push(SITE, &function);
        })?;
        let at = site.after.as_ref().or(site.before.as_ref());
        let at = at.and_then(|side| {
            let file = display_path(side.file.as_ref()?);
            Some(match side.line {
                Some(number) => format!(" at {file}:{number}"),
                None => format!(" at {file}"),
            })
        });
        let waits = match (&site.before, &site.after) {
            (Some(before), Some(after)) => {
                format!("{} waits before, {} after", before.waits, after.waits)
            }
            (Some(one), None) | (None, Some(one)) => counted(one.waits, "wait", "waits"),
            (None, None) => String::new(),
        };
        let text = format!("{}{}, {waits}", site.cause.name(), at.unwrap_or_default());
        let text = self
            .0
            .fit(&text, self.0.width.saturating_sub(CHANGE + 2), cut_right);
        self.put(|line| {
            line.pad_to(CHANGE + 2).push(DIM, &text);
        })
    }
}

const fn style(change: Change) -> Style {
    match change {
        Change::Gained | Change::Worse => BAD,
        Change::Lost | Change::Better => GOOD,
        Change::Same => PLAIN,
    }
}
