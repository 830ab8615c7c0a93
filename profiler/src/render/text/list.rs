//! The processes that hold tokio, on a terminal: a table.

use super::line::{Line, cut_left, cut_right, width, wrap};
use super::paper::Paper;
use super::style::{BAD, DIM, HEADING, PLAIN, WARN};
use crate::counted::counted;
use crate::render::{Options, percent, sanitize};
use crate::report::list::{ListedProcess, Listing};
use anstyle::Style;
use std::io;

/// Narrower than this, a table has no room.
const MIN_WIDTH: usize = 60;
/// Columns between columns.
const GAP: usize = 2;
/// The most columns that a cell takes, but for the last one.
const MAX_CELL: usize = 28;

/// Writes a line for each process, and below them what was not seen.
///
/// # Errors
/// Those of writing to `out`.
pub fn render(listing: &Listing, options: &Options, out: &mut dyn io::Write) -> io::Result<()> {
    let mut paper = Paper::new(MIN_WIDTH, options, out);
    if !listing.processes.is_empty() {
        let rows: Vec<Vec<String>> = listing
            .processes
            .iter()
            .map(|process| row(process, listing.looked_ns.is_some()))
            .collect();
        let heads = heads(listing.looked_ns.is_some());
        // Where nothing is to be cut, the last column takes what it needs.
        let width = if options.cut { paper.width } else { usize::MAX };
        let widths = widths(&heads, &rows, width);
        paper.put(&table_row(&heads, &widths, width, options.color, |_| {
            HEADING
        }))?;
        for (row, process) in rows.iter().zip(&listing.processes) {
            let style = |column: usize| style(process, listing.looked_ns.is_some(), column);
            paper.put(&table_row(row, &widths, width, options.color, style))?;
        }
    }
    for (style, text) in notes(listing) {
        for part in wrap(&text, paper.width) {
            let mut line = paper.line();
            line.push(style, &part);
            paper.put(&line)?;
        }
    }
    Ok(())
}

fn heads(looked: bool) -> Vec<String> {
    let mut heads = vec!["PID", "USER", "NAME", "TOKIO", "WORKERS", "NAMES"];
    if looked {
        heads.insert(1, "BLOCKED");
    }
    heads.push("WHERE");
    heads.into_iter().map(str::to_owned).collect()
}

fn row(process: &ListedProcess, looked: bool) -> Vec<String> {
    let user = match &process.user {
        Some(user) => sanitize(user).into_owned(),
        None => process.uid.to_string(),
    };
    let version = match process.tokio_versions.as_slice() {
        [] => "?".to_owned(),
        versions => sanitize(&versions.join(" ")).into_owned(),
    };
    let workers = match (process.workers, process.runtimes) {
        (Some(workers), Some(runtimes)) if runtimes > 1 => format!("{workers} in {runtimes}"),
        (Some(workers), _) => workers.to_string(),
        (None, _) => match process.threads_named_by_tokio {
            0 => "?".to_owned(),
            threads => format!("≤{threads}?"),
        },
    };
    let names = match (process.has_symbols, process.has_lines) {
        (true, true) => "symbols, lines",
        (true, false) => "symbols",
        (false, true) => "lines",
        (false, false) => "none",
    };
    let mut row = vec![
        process.pid.to_string(),
        user,
        sanitize(&process.name).into_owned(),
        version,
        workers,
        names.to_owned(),
    ];
    if looked {
        let share = process
            .blocked_share
            .map_or_else(|| "?".to_owned(), percent);
        row.insert(1, share);
    }
    row.push(place(process));
    row
}

/// The service, container or pod; in which library tokio is; and what stands in the way.
fn place(process: &ListedProcess) -> String {
    let mut parts = Vec::new();
    parts.extend(
        process
            .unit
            .as_ref()
            .map(|unit| sanitize(unit).into_owned()),
    );
    if let Some(container) = &process.container {
        parts.push(format!("container {}", sanitize(container)));
    }
    if let Some(pod) = &process.pod {
        parts.push(format!("pod {}", sanitize(pod)));
    }
    if let Some(own) = process.own_pid {
        parts.push(format!("pid {own} there"));
    }
    let elsewhere = process
        .tokio_in
        .iter()
        .find(|_| !process.tokio_in.contains(&process.name));
    if let Some(library) = elsewhere {
        parts.push(format!("in {}", cut_left(&sanitize(library), MAX_CELL)));
    }
    if let Some(remark) = &process.remark {
        let cannot = if process.can_record {
            ""
        } else {
            "cannot be recorded: "
        };
        parts.push(format!("{cannot}{}", sanitize(remark)));
    }
    parts.join(", ")
}

/// The width of each column: what its cells need, and less of the widest where a line has no room.
fn widths(heads: &[String], rows: &[Vec<String>], room: usize) -> Vec<usize> {
    let cell = |column: usize| {
        let cells = rows.iter().filter_map(move |row| row.get(column));
        cells.map(|cell| width(cell)).max().unwrap_or(0)
    };
    let columns = heads.iter().enumerate();
    let mut widths: Vec<usize> = columns
        .map(|(column, head)| cell(column).max(width(head)).min(MAX_CELL))
        .collect();
    // The last one takes what is left.
    let (last, before) = match widths.split_last_mut() {
        Some((last, before)) => (*last, before),
        None => return widths,
    };
    while before.iter().map(|width| width + GAP).sum::<usize>() + last.min(MAX_CELL / 2) > room {
        match before.iter_mut().max() {
            Some(widest) if *widest > 4 => *widest -= 1,
            _ => break,
        }
    }
    widths
}

fn table_row(
    cells: &[String],
    widths: &[usize],
    columns: usize,
    color: bool,
    style: impl Fn(usize) -> Style,
) -> Line {
    let mut line = Line::new(color);
    let last = cells.len().saturating_sub(1);
    for (column, cell) in cells.iter().enumerate() {
        let width = widths.get(column).copied().unwrap_or_default();
        if column == 0 {
            line.push_right(style(column), cell, width);
        } else if column == last {
            let room = columns.saturating_sub(line.width());
            line.push(style(column), &cut_right(cell, room));
        } else {
            let end = line.width() + width;
            line.push(style(column), &cut_right(cell, width))
                .pad_to(end);
        }
        let end = (line.width() + GAP).min(columns);
        line.pad_to(end);
    }
    line
}

/// What is much blocked stands out, and what cannot be recorded.
fn style(process: &ListedProcess, looked: bool, column: usize) -> Style {
    const MUCH: f64 = 0.05;
    let blocked = process.blocked_share.unwrap_or_default() >= MUCH;
    match column {
        1 if looked && blocked => BAD,
        _ if !process.can_record => DIM,
        _ => PLAIN,
    }
}

/// What is said below the table.
fn notes(listing: &Listing) -> Vec<(Style, String)> {
    let mut notes = Vec::new();
    if listing.processes.is_empty() {
        let text = if listing.unreadable > 0 {
            "No process that may be looked into holds tokio."
        } else {
            "No process of this host holds tokio."
        };
        notes.push((PLAIN, text.to_owned()));
    }
    let guessed =
        |process: &ListedProcess| process.workers.is_none() && process.threads_named_by_tokio > 0;
    if listing.processes.iter().any(guessed) {
        let mut text =
            "WORKERS with ≤ and ? is a guess: threads with the name that tokio gives to workers \
                        and to its blocking pool."
                .to_owned();
        if listing.looked_ns.is_none() {
            text.push_str(" `holdup list --look` counts them, and their runtimes.");
        }
        notes.push((DIM, text));
    }
    let several = |process: &ListedProcess| process.runtimes.is_some_and(|runtimes| runtimes > 1);
    if listing.processes.iter().any(several) {
        let text = "WORKERS such as `6 in 2` are 6 workers in 2 runtimes.";
        notes.push((DIM, text.to_owned()));
    }
    if listing.unreadable > 0 {
        let processes = counted(listing.unreadable, "process", "processes");
        // Who may record may look into all that are not protected from everybody.
        let remedy = if listing.refusal.is_some() {
            ": run holdup with sudo to see all"
        } else {
            ""
        };
        notes.push((
            WARN,
            format!("{processes} could not be looked into{remedy}."),
        ));
    }
    if listing.unread_files > 0 {
        let files = counted(listing.unread_files, "file", "files");
        notes.push((
            WARN,
            format!("{files} could not be read: tokio may be in them."),
        ));
    }
    if let Some(refusal) = &listing.refusal {
        notes.push((
            WARN,
            format!("Nothing can be recorded here: {}.", sanitize(refusal)),
        ));
    }
    notes
}
