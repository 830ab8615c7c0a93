//! What follows the sites: long polls, open waits, what ran, losses and notes.

use super::markup::Text;
use crate::counted::counted;
use crate::render::text::words;
use crate::render::{count, display_name, duration, percent, process_name, sanitize};
use crate::report::{CallSite, CpuPart, LongPollSite, OpenWaitReport, PanicReport, Report};
use std::io;

/// Rows of each table, at most.
const ROWS: usize = 100;

/// A table with a heading. A row is its cells; those of the first `numbers` columns are figures.
struct Table<'a> {
    id: &'a str,
    heading: &'a str,
    note: String,
    columns: &'a [&'a str],
    numbers: usize,
}

impl Table<'_> {
    fn write(&self, rows: &[Vec<String>], out: &mut dyn io::Write) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let class = |column: usize| {
            if column < self.numbers {
                " class=\"num\""
            } else {
                ""
            }
        };
        let (id, heading) = (self.id, self.heading);
        writeln!(
            out,
            "<section id=\"{id}\">\n<h2>{heading} <span>{}</span></h2>\n<div class=\"scroll\" \
             role=\"region\" aria-label=\"{heading}\" tabindex=\"0\">\n<table class=\"grid\">\n<thead><tr>",
            Text(&self.note)
        )?;
        for (column, name) in self.columns.iter().enumerate() {
            write!(out, "<th scope=\"col\"{}>{name}</th>", class(column))?;
        }
        writeln!(out, "</tr></thead>\n<tbody>")?;
        for row in rows.iter().take(ROWS) {
            write!(out, "<tr>")?;
            for (column, cell) in row.iter().enumerate() {
                write!(out, "<td{}>{}</td>", class(column), Text(cell))?;
            }
            writeln!(out, "</tr>")?;
        }
        writeln!(out, "</tbody>\n</table>\n</div>")?;
        let more = rows.len().saturating_sub(ROWS);
        if more > 0 {
            writeln!(out, "<p class=\"note\">… and {more} more</p>")?;
        }
        writeln!(out, "</section>")
    }
}

/// Everything after the sites.
pub(super) fn all(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    long_polls(report, out)?;
    calls(report, out)?;
    deadlocks(report, out)?;
    open_waits(report, out)?;
    cpu(report, out)?;
    if let Some(panics) = &report.panics {
        self::panics(panics, out)?;
    }
    losses(report, out)
}

/// `claims_api::api::claim (src/api.rs:54)`, and whose it is.
fn place(report: &Report, function: &str, at: Option<String>, pid: crate::units::Pid) -> String {
    let mut text = display_name(function);
    text.extend(at.map(|at| format!(" ({at})")));
    text.extend(process_name(report, pid).map(|name| format!(" of {}", sanitize(&name))));
    text
}

fn long_polls(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let row = |site: &LongPollSite| {
        let times = &site.times;
        let parts = [times.blocked_ns, times.runqueue_ns, times.running_ns];
        let at = words::file_and_line(site.file.as_deref(), site.line);
        vec![
            duration(times.total_ns),
            count(times.polls),
            words::parts(parts, times.total_ns),
            words::longest(&site.longest),
            site.task.as_deref().map(display_name).unwrap_or_default(),
            place(report, &site.function, at, site.pid),
        ]
    };
    let table = Table {
        id: "long-polls",
        heading: "Long polls",
        note: format!("of at least {}, by task", duration(report.long_poll_ns)),
        columns: &["Time", "Polls", "Of it", "Longest", "Task", "Site"],
        numbers: 2,
    };
    table.write(&report.long_polls.iter().map(row).collect::<Vec<_>>(), out)
}

fn calls(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let in_poll = |site: &&CallSite| matches!(site.part, CpuPart::Poll | CpuPart::BlockOn);
    let row = |site: &CallSite| {
        let at = words::file_and_line(site.file.as_deref(), site.line);
        vec![
            duration(site.total_ns),
            count(site.calls),
            duration(site.max_ns),
            format!("{}: {}", site.cause.name(), site.call),
            place(report, &site.function, at, site.pid),
        ]
    };
    let table = Table {
        id: "calls",
        heading: "Inside system calls",
        note: format!(
            "CPU time of polls in one call of {} or more",
            duration(report.min_block_ns)
        ),
        columns: &["Time", "Calls", "Max", "Call", "Site"],
        numbers: 3,
    };
    let rows = report.call_sites.iter().filter(in_poll).map(row);
    table.write(&rows.collect::<Vec<_>>(), out)
}

fn deadlocks(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    for (number, deadlock) in report.deadlocks.iter().take(words::DEADLOCKS).enumerate() {
        let waits = words::circle(report, deadlock).into_iter();
        let row = |[waiter, what]: [String; 2]| vec![waiter, what];
        let table = Table {
            id: &format!("deadlock-{number}"),
            heading: words::circle_heading(deadlock),
            note: words::CIRCLE_NOTE.to_owned(),
            columns: &["Thread", "Waits for"],
            numbers: 0,
        };
        table.write(&waits.map(row).collect::<Vec<_>>(), out)?;
    }
    Ok(())
}

fn open_waits(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let row = |wait: &OpenWaitReport| {
        let least = if wait.before_recording { "≥ " } else { "" };
        vec![
            format!("{least}{}", duration(wait.since_ns)),
            wait.state.name().to_owned(),
            format!("{} ({})", wait.name, wait.tid),
            place(report, &wait.function, None, wait.pid),
            words::open_object(wait).unwrap_or_default(),
        ]
    };
    let table = Table {
        id: "open-waits",
        heading: "Still waiting when the recording ended",
        note: "longest first".to_owned(),
        columns: &["For", "State", "Thread", "Site", "What for"],
        numbers: 1,
    };
    table.write(&report.open_waits.iter().map(row).collect::<Vec<_>>(), out)
}

fn cpu(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let all: u64 = report.cpu_sites.iter().map(|site| site.samples).sum();
    let rows = report.cpu_sites.iter().map(|site| {
        let at = words::file_and_line(site.file.as_deref(), site.line);
        vec![
            duration(site.cpu_ns),
            percent(site.samples as f64 / all as f64),
            words::cpu_part(site.part).to_owned(),
            place(report, &site.function, at, site.pid),
        ]
    });
    let table = Table {
        id: "cpu",
        heading: "On a CPU",
        note: format!("share of {}", counted(all, "sample", "samples")),
        columns: &["Time", "Share", "In", "Site"],
        numbers: 2,
    };
    table.write(&rows.collect::<Vec<_>>(), out)
}

fn panics(panics: &PanicReport, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(
        out,
        "<section id=\"panics\">\n<h2>Panics</h2>\n<ul class=\"plain\">"
    )?;
    for site in panics.sites.iter().take(ROWS) {
        let at = words::file_and_line(site.file.as_deref(), site.line);
        let at = at.map_or_else(String::new, |at| format!(" ({at})"));
        let number = counted(site.panics, "panic", "panics");
        let text = format!("{number} in {}{at}", display_name(&site.function));
        writeln!(out, "<li>{}</li>", Text(&text))?;
    }
    if panics.sites.is_empty() && !panics.probed.is_empty() {
        writeln!(out, "<li>none</li>")?;
    }
    for problem in &panics.problems {
        writeln!(out, "<li>not counted: {}</li>", Text(problem))?;
    }
    writeln!(out, "</ul>\n</section>")
}

fn losses(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let (parts, causes) = words::lost(report);
    let text = match (parts.is_empty(), causes.is_empty()) {
        (true, true) => words::nothing_lost(report),
        (true, false) => causes.join("; "),
        (false, true) => parts.join("; "),
        (false, false) => format!("{}; by {}", parts.join("; "), causes.join("; ")),
    };
    writeln!(
        out,
        "<section id=\"losses\">\n<h2>Lost, and notes</h2>\n<ul class=\"plain\">\n<li>Lost: {}</li>",
        Text(&text)
    )?;
    let mut notes = words::note_texts(report);
    notes.extend(
        report
            .detail
            .iter()
            .flat_map(crate::render::export::left_out),
    );
    for note in notes {
        writeln!(out, "<li>{}</li>", Text(&note))?;
    }
    writeln!(out, "</ul>\n</section>")
}
