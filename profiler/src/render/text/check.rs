//! What `holdup check` found, on a terminal.

use super::line::{Line, cut_right, width, wrap};
use super::style::{BAD, DIM, GOOD, HEADING, PLAIN, WARN};
use crate::counted::counted;
use crate::render::name::file_name;
use crate::render::{Options, sanitize};
use crate::report::check::{Check, CheckArea, CheckState, CheckedTarget, Requirement};
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
            page.heading(heading(requirement.area))?;
        }
        page.requirement(requirement)?;
    }
    let several = check.targets.len() > 1;
    for target in &check.targets {
        let mut title = heading(CheckArea::Target).to_owned();
        if several {
            title.push_str(&format!("  {}", named(target)));
        }
        page.heading(&title)?;
        for requirement in &target.requirements {
            page.requirement(requirement)?;
        }
    }
    Ok(())
}

/// `claims_api (pid 4711)`.
fn named(target: &CheckedTarget) -> String {
    match &target.exe {
        Some(exe) => format!("{} (pid {})", sanitize(file_name(exe)), target.pid),
        None => format!("pid {}", target.pid),
    }
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
        match check.targets.as_slice() {
            [] => {}
            [target] => {
                facts.push(format!("pid {}", target.pid));
                if let Some(exe) = &target.exe {
                    facts.push(sanitize(file_name(exe)).into_owned());
                }
            }
            several => facts.push(counted(several.len() as u64, "process", "processes")),
        }
        let title = format!("{} {}", check.tool.name, check.tool.version);
        let room = self.width.saturating_sub(width(&title));
        let facts = cut_right(&format!(" · {}", facts.join(" · ")), room);
        self.put(|line| {
            line.push(HEADING, &title).push(DIM, &facts);
        })?;
        self.blank()
    }

    fn heading(&mut self, text: &str) -> io::Result<()> {
        self.blank()?;
        let text = cut_right(text, self.width);
        self.put(|line| {
            line.push(HEADING, &text);
        })
    }

    fn verdict(&mut self, check: &Check) -> io::Result<()> {
        let of_targets = check.targets.iter();
        let of_targets = of_targets.flat_map(|target| &target.requirements);
        let all = check.requirements.iter().chain(of_targets);
        let limits = all
            .filter(|requirement| {
                matches!(requirement.state, CheckState::Limited | CheckState::Unknown)
            })
            .count() as u64;
        let (style, word, text) = match &check.refusal {
            Some(refusal) => (BAD, "NOT READY", sanitize(&refusal.message).into_owned()),
            None => {
                let refused = check.targets.iter().filter(|one| one.refusal.is_some());
                let (refused, of) = (refused.count(), check.targets.len());
                let mut text = match refused {
                    0 => "to record".to_owned(),
                    refused => format!("to record {} of {of} processes", of - refused),
                };
                if limits > 0 {
                    text.push_str(&format!(", with {}", counted(limits, "limit", "limits")));
                }
                if limits > 0 || refused > 0 {
                    text.push_str(": see below");
                    (WARN, "READY", text)
                } else {
                    (GOOD, "READY", text)
                }
            }
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
