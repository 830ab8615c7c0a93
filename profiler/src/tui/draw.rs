//! The screen.

use super::look::Look;
use super::state::{Span as Shown, State};
use super::text::{cut_end, cut_start, plain, width};
use super::view::View;
use super::{detail, lanes, runtimes, sites};
use crate::counted::counted;
use crate::render::{duration, sanitize};
use crate::report::{Report, Verdict};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Smaller screens show nothing that could be read.
const SMALLEST: (u16, u16) = (40, 10);

/// Keys, most needed first.
const KEYS: [&str; 9] = [
    "q quit",
    "? help",
    "enter stack",
    "/ filter",
    "p pause",
    "s save",
    "h t w l sort",
    "r span",
    "+ - zoom",
];

const HELP: [(&str, &str); 14] = [
    ("q, Ctrl-C", "end the recording and print its report"),
    (
        "up, down, j, k",
        "choose a site; also PgUp, PgDn, Home, End",
    ),
    (
        "enter",
        "its stack, who was to blame, and advice; again: back",
    ),
    (
        "/",
        "show only sites that have a text somewhere; Esc shows all",
    ),
    (
        "h, t, w, l",
        "sort by harm, time, number of waits, longest wait",
    ),
    (
        "r",
        "of which time: the last 5 s, 15 s, 60 s, or since the start",
    ),
    ("+, -", "shorter or longer cells in the workers' lanes"),
    ("p", "hold the screen; the recording goes on"),
    ("s", "save a capture of everything recorded so far"),
    ("Ctrl-L", "draw anew"),
    ("", ""),
    (
        "harm",
        "time in which no task could run, and would without these waits",
    ),
    ("starved", "every worker of the runtime was blocked at once"),
    (
        "lanes",
        "a letter: blocked, by its cause; small: for less than half of the cell",
    ),
];

/// Draws what is seen, as it was chosen. Pure: the same is drawn the same.
pub fn draw(view: &View, state: &State, look: Look, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("at least {} x {}", SMALLEST.0, SMALLEST.1);
        put(frame, area, 0, &[Line::raw(text)]);
        return;
    }
    let columns = usize::from(area.width);
    let height = usize::from(area.height);
    put(frame, area, 0, &[title(view, state, look, columns)]);
    let body = height.saturating_sub(2);
    let lines = match (&state.looked, state.help) {
        (_, true) => help(look, columns),
        (Some(looked), false) => detail::lines(view, looked, look, (columns, body)),
        (None, false) => overview(view, state, look, (columns, body)),
    };
    put(frame, area, 1, lines.get(..body).unwrap_or(&lines));
    let last = area.height.saturating_sub(1);
    put(frame, area, last, &[footer(state, look, columns)]);
}

/// Writes lines from row `top` on.
fn put(frame: &mut Frame<'_>, area: Rect, top: u16, lines: &[Line<'static>]) {
    for (row, line) in (top..area.height).zip(lines) {
        let buffer = frame.buffer_mut();
        if line.style != Style::default() {
            buffer.set_style(Rect::new(area.x, area.y + row, area.width, 1), line.style);
        }
        buffer.set_line(area.x, area.y + row, line, area.width);
    }
}

/// Runtimes, sites, workers: each has what it needs, as far as that leaves something for the others.
fn overview(
    view: &View,
    state: &State,
    look: Look,
    (columns, height): (usize, usize),
) -> Vec<Line<'static>> {
    let each = runtimes::height(columns);
    let wanted = each * view.report.runtimes.len().max(1);
    let for_runtimes = wanted.min((height / 3).max(each));
    let mut lines = runtimes::lines(view, look, (columns, for_runtimes));
    lines.push(Line::default());
    let rest = height.saturating_sub(lines.len());
    let wanted = view.lanes.len() + 1;
    let for_lanes = if view.lanes.is_empty() {
        0
    } else {
        wanted.min(rest * 2 / 5)
    };
    // One line between the two.
    let for_sites = rest.saturating_sub(for_lanes + usize::from(for_lanes > 0));
    let mut sites = sites::lines(view, state, look, (columns, for_sites));
    sites.resize(for_sites + usize::from(for_lanes > 0), Line::default());
    lines.extend(sites);
    lines.extend(lanes::lines(view, state, look, (columns, for_lanes)));
    lines
}

fn title(view: &View, state: &State, look: Look, columns: usize) -> Line<'static> {
    let report = &*view.report;
    let what = match report.targets.len() {
        0 | 1 => format!(
            "{} ({})",
            sanitize(report.target.exe_name()),
            report.target.pid
        ),
        several => counted(several as u64, "process", "processes"),
    };
    let span = match state.span {
        Shown::Last(_) => format!("last {}", duration(report.duration_ns)),
        Shown::Whole => "since the start".to_owned(),
    };
    let (word, style) = verdict(report, look);
    let right = match &view.ended {
        Some(ended) => format!(" ended: {} ", sanitize(ended)),
        None if state.paused => " PAUSED ".to_owned(),
        None => String::new(),
    };
    let right = cut_end(&plain(&right, look), columns / 2, look);
    let dot = look.dot();
    let mut facts = format!("{dot}{}{dot}{span}", duration(view.elapsed));
    let losses = report.losses.events + report.losses.stacks;
    if losses > 0 {
        facts.push_str(&format!("{dot}{} lost", crate::render::count(losses)));
    }
    let facts = plain(&facts, look);
    let used = width("holdup ") + width(word) + 1 + width(&facts) + width(&right);
    let what = cut_end(&plain(&what, look), columns.saturating_sub(used), look);
    let mut spans = vec![
        Span::styled("holdup ", look.heading()),
        Span::styled(word, style),
        Span::raw(" "),
        Span::styled(what, look.heading()),
        Span::styled(facts, look.dim()),
    ];
    let so_far: usize = spans.iter().map(|span| width(&span.content)).sum();
    let pad = columns.saturating_sub(so_far + width(&right));
    spans.push(Span::raw(" ".repeat(pad)));
    spans.push(Span::styled(right, look.chosen()));
    Line::from(spans)
}

/// The main finding in a word.
fn verdict(report: &Report, look: Look) -> (&'static str, Style) {
    match &report.verdict {
        Verdict::Wedged { .. } => ("WEDGED", look.bad()),
        Verdict::Starved { .. } => ("STARVED", look.bad()),
        Verdict::WorkersBlocked { .. } => ("BLOCKED", look.bad()),
        Verdict::LongPolls { .. } => ("CPU HOG", look.bad()),
        Verdict::CpuStarved { .. } => ("NO CPU", look.warn()),
        Verdict::Unclear { .. } => ("UNCLEAR", look.warn()),
        Verdict::PoolFull { .. } => ("POOL FULL", look.bad()),
        Verdict::Stopped { .. } => ("STOPPED", look.warn()),
        Verdict::CpuBound { .. } => ("CPU BOUND", look.warn()),
        Verdict::Healthy { .. } => ("HEALTHY", look.good()),
        Verdict::NoRuntime => ("NO RUNTIME", look.warn()),
        Verdict::NothingSeen => ("NO DATA", look.warn()),
    }
}

fn footer(state: &State, look: Look, columns: usize) -> Line<'static> {
    if state.typing {
        let filter = plain(&sanitize(&state.filter), look);
        let filter = cut_start(&filter, columns.saturating_sub(3), look);
        return Line::from(vec![
            Span::styled("/", look.heading()),
            Span::raw(filter),
            Span::styled(" ", look.chosen()),
        ]);
    }
    if let Some(message) = &state.message {
        let message = plain(&sanitize(message), look);
        return Line::styled(cut_end(&message, columns, look), look.warn());
    }
    let mut text = String::new();
    if !state.filter.is_empty() {
        text = format!("filter \"{}\" (Esc)", plain(&sanitize(&state.filter), look));
        text = cut_end(&text, columns / 2, look);
    }
    for key in KEYS {
        let more = if text.is_empty() {
            key.to_owned()
        } else {
            format!("{text}  {key}")
        };
        if width(&more) > columns {
            break;
        }
        text = more;
    }
    Line::styled(text, look.dim())
}

fn help(look: Look, columns: usize) -> Vec<Line<'static>> {
    let lines = HELP.iter().map(|(key, what)| {
        let key = super::text::left(key, 16, look);
        let what = cut_end(what, columns.saturating_sub(18), look);
        Line::from(vec![
            Span::styled(format!("  {key}"), look.heading()),
            Span::raw(what),
        ])
    });
    std::iter::once(Line::default()).chain(lines).collect()
}
