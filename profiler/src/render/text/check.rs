//! What `holdup check` found, on a terminal.

use super::line::{Line, cut_right, width, wrap};
use super::style::{BAD, DIM, GOOD, HEADING, PLAIN, WARN};
use crate::counted::counted;
use crate::render::{Options, sanitize};
use crate::report::check::{Check, CheckArea, CheckState, Requirement};
use anstyle::Style;
use std::io;

/// Narrower than this, the columns have no room.
const MIN_WIDTH: usize = 60;
/// Columns where the requirements' names and what is said of them begin.
const NAME: usize = 11;
const TEXT: usize = 39;
/// Behind `try:`, which stands below the name.
const REMEDY: usize = NAME + 5;
/// Before the state.
const INDENT: usize = 2;

/// Writes the verdict, and below it every requirement.
///
/// # Errors
/// Those of writing to `out`.
pub fn render(check: &Check, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let mut page = Page {
        width: options.width.max(MIN_WIDTH),
        color: options.color,
        out,
    };
    page.head(check)?;
    page.verdict(check)?;
    let mut area = None;
    for requirement in &check.requirements {
        if area != Some(requirement.area) {
            area = Some(requirement.area);
            page.blank()?;
            let heading = heading(requirement.area);
            page.put(|line| {
                line.push(HEADING, heading);
            })?;
        }
        page.requirement(requirement)?;
    }
    Ok(())
}

const fn heading(area: CheckArea) -> &'static str {
    match area {
        CheckArea::Permission => "Permissions",
        CheckArea::Kernel => "Kernel",
        CheckArea::Setting => "Settings",
        CheckArea::Target => "Target",
    }
}

const fn style(state: CheckState) -> Style {
    match state {
        CheckState::Ok => GOOD,
        CheckState::Limited | CheckState::Unknown => WARN,
        CheckState::Missing => BAD,
    }
}

/// What is said of a requirement, and whether it matters.
fn account(requirement: &Requirement) -> (String, bool) {
    let found = sanitize(&requirement.found);
    let purpose = requirement.purpose;
    match requirement.state {
        CheckState::Ok if found.is_empty() => (purpose.to_owned(), false),
        CheckState::Ok => (found.into_owned(), false),
        _ if found.is_empty() => (format!("needed to {purpose}"), true),
        _ => (found.into_owned(), true),
    }
}

struct Page<'a> {
    width: usize,
    color: bool,
    out: &'a mut dyn io::Write,
}

impl Page<'_> {
    fn put(&mut self, fill: impl FnOnce(&mut Line)) -> io::Result<()> {
        let mut line = Line::new(self.color);
        fill(&mut line);
        writeln!(self.out, "{}", line.finish())
    }

    fn blank(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    fn head(&mut self, check: &Check) -> io::Result<()> {
        let mut facts = vec![
            format!("Linux {}", sanitize(&check.host.kernel)),
            counted(u64::from(check.host.cpus), "CPU", "CPUs"),
        ];
        if let Some(target) = &check.target {
            facts.push(format!("pid {}", target.pid));
            if let Some(exe) = &target.exe {
                let name = exe.rsplit('/').next().unwrap_or(exe);
                facts.push(sanitize(name).into_owned());
            }
        }
        let title = format!("{} {}", check.tool.name, check.tool.version);
        let room = self.width.saturating_sub(width(&title));
        let facts = cut_right(&format!(" · {}", facts.join(" · ")), room);
        self.put(|line| {
            line.push(HEADING, &title).push(DIM, &facts);
        })?;
        self.blank()
    }

    fn verdict(&mut self, check: &Check) -> io::Result<()> {
        let limits = check
            .requirements
            .iter()
            .filter(|requirement| {
                matches!(requirement.state, CheckState::Limited | CheckState::Unknown)
            })
            .count() as u64;
        let (style, word, text) = match &check.refusal {
            Some(refusal) => (BAD, "NOT READY", sanitize(&refusal.message).into_owned()),
            None if limits > 0 => {
                let limits = counted(limits, "limit", "limits");
                (
                    WARN,
                    "READY",
                    format!("to record, with {limits}: see below"),
                )
            }
            None => (GOOD, "READY", "to record".to_owned()),
        };
        let columns = self.width.saturating_sub(NAME);
        for (index, part) in wrap(&text, columns).iter().enumerate() {
            self.put(|line| {
                if index == 0 {
                    line.push(style, word);
                }
                line.pad_to(NAME).push(PLAIN, part);
            })?;
        }
        Ok(())
    }

    fn requirement(&mut self, requirement: &Requirement) -> io::Result<()> {
        let (text, matters) = account(requirement);
        let text_style = if matters { PLAIN } else { DIM };
        let columns = self.width.saturating_sub(TEXT);
        for (index, part) in wrap(&text, columns).iter().enumerate() {
            self.put(|line| {
                if index == 0 {
                    line.pad_to(INDENT)
                        .push(style(requirement.state), requirement.state.word())
                        .pad_to(NAME)
                        .push(PLAIN, requirement.name);
                }
                line.pad_to(TEXT).push(text_style, part);
            })?;
        }
        let Some(remedy) = &requirement.remedy else {
            return Ok(());
        };
        // Further left than what was found: a command should not be broken.
        let columns = self.width.saturating_sub(REMEDY);
        for (index, part) in wrap(&sanitize(remedy), columns).iter().enumerate() {
            self.put(|line| {
                if index == 0 {
                    line.pad_to(NAME).push(HEADING, "try:");
                }
                line.pad_to(REMEDY).push(PLAIN, part);
            })?;
        }
        Ok(())
    }
}
