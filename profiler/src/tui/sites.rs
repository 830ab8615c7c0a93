//! Where workers are blocked.

use super::look::{Look, word};
use super::state::{Sort, State, chosen, listed};
use super::text::{cut_end, cut_start, left, place, plain, process, right};
use super::view::{View, is_listed};
use crate::cause::Cause;
use crate::render::{count, display_name, duration, percent, sanitize};
use crate::report::{Report, Site, WakerTotal};
use crate::runtime::{Role, State as Waits};
use crate::units::{Nanos, Pid};
use ratatui::text::{Line, Span};

/// How wide each column is; none has no room.
struct Columns {
    harm: usize,
    time: usize,
    waits: usize,
    longest: usize,
    cause: usize,
    function: usize,
    call: usize,
    waker: usize,
}

impl Columns {
    fn of(width: usize) -> Columns {
        let (waits, cause) = match width {
            0..80 => (0, 8),
            80..100 => (8, 10),
            _ => (9, 16),
        };
        // A mark, four numbers, a gap after each and the cause.
        let rest = width.saturating_sub(1 + 3 * 9 + waits + cause + 3);
        let (call, waker) = match width {
            0..120 => (0, 0),
            120..160 => (rest * 2 / 5, 0),
            _ => (rest / 3, rest / 4),
        };
        Columns {
            harm: 9,
            time: 9,
            waits,
            longest: 9,
            cause,
            function: rest.saturating_sub(call + waker),
            call,
            waker,
        }
    }
}

/// A heading and as many sites as there is room for.
pub(super) fn lines(
    view: &View,
    state: &State,
    look: Look,
    (width, height): (usize, usize),
) -> Vec<Line<'static>> {
    if height == 0 {
        return Vec::new();
    }
    let sites = listed(view, state);
    let columns = Columns::of(width);
    let mut lines = vec![heading(state, look, &columns)];
    let rows = height.saturating_sub(1);
    if sites.is_empty() {
        lines.push(none(view, state, look));
        return lines;
    }
    let at = chosen(state, &sites);
    let first = at.checked_div(rows).unwrap_or(0) * rows;
    for (index, site) in sites.iter().enumerate().skip(first).take(rows) {
        let mut line = row(&view.report, site, look, &columns, index == at);
        if index == at {
            line = line.style(look.chosen());
        }
        lines.push(line);
    }
    lines
}

fn none(view: &View, state: &State, look: Look) -> Line<'static> {
    let text = if !state.filter.is_empty() && view.report.sites.iter().any(|s| is_listed(s.state)) {
        format!(
            "  no site has \"{}\": Esc shows all",
            sanitize(&state.filter)
        )
    } else {
        "  no worker was blocked".to_owned()
    };
    Line::styled(plain(&text, look), look.dim())
}

fn heading(state: &State, look: Look, columns: &Columns) -> Line<'static> {
    let mut spans = vec![Span::raw(" ")];
    for (sort, name, columns) in [
        (Some(Sort::Harm), "HARM", columns.harm),
        (Some(Sort::Time), "TIME", columns.time),
        (Some(Sort::Waits), "WAITS", columns.waits),
        (Some(Sort::Longest), "LONGEST", columns.longest),
    ] {
        if columns > 0 {
            // What sorts is marked by a sign, too.
            let sorts = sort == Some(state.sort);
            let name = if sorts {
                format!("{name}*")
            } else {
                name.to_owned()
            };
            let style = if sorts { look.warn() } else { look.heading() };
            spans.push(Span::styled(right(&name, columns, look), style));
        }
    }
    spans.push(Span::raw(" "));
    for (name, columns) in [
        ("CAUSE", columns.cause),
        ("BLOCKED IN", columns.function),
        ("CALL", columns.call),
        ("WOKEN BY", columns.waker),
    ] {
        if columns > 0 {
            spans.push(Span::styled(left(name, columns, look), look.heading()));
            spans.push(Span::raw(" "));
        }
    }
    Line::from(spans)
}

fn row(
    report: &Report,
    site: &Site,
    look: Look,
    columns: &Columns,
    is_chosen: bool,
) -> Line<'static> {
    let time = |time: Nanos| match time {
        Nanos::ZERO => "-".to_owned(),
        time => plain(&duration(time), look),
    };
    let style = |harmful: bool| {
        if harmful && !is_chosen {
            look.bad()
        } else {
            Default::default()
        }
    };
    let mut spans = vec![Span::raw(if is_chosen { ">" } else { " " })];
    let harm = right(&time(site.harm_ns), columns.harm, look);
    spans.push(Span::styled(harm, style(site.harm_ns > Nanos::ZERO)));
    spans.push(Span::raw(right(&time(site.total_ns), columns.time, look)));
    if columns.waits > 0 {
        spans.push(Span::raw(right(&count(site.waits), columns.waits, look)));
    }
    let longest = right(&time(site.max_ns), columns.longest, look);
    spans.push(Span::raw(longest));
    spans.push(Span::raw(" "));
    let cause = left(&cause(site), columns.cause, look);
    let cause_style = if is_chosen {
        Default::default()
    } else {
        look.of_state(site.state)
    };
    spans.push(Span::styled(cause, cause_style));
    spans.push(Span::raw(" "));
    let function = function(report, site, look, columns.function);
    spans.push(Span::raw(left(&function, columns.function, look)));
    for (text, columns) in [
        (call(site), columns.call),
        (waker(report, site), columns.waker),
    ] {
        if columns > 0 {
            let text = cut_end(&plain(&text, look), columns.saturating_sub(1), look);
            spans.push(Span::raw(" "));
            spans.push(Span::raw(left(&text, columns, look)));
        }
    }
    Line::from(spans)
}

/// The cause, or what else it is: of a state that is no poll.
fn cause(site: &Site) -> String {
    match (site.state, site.role) {
        (Waits::Blocked, Role::BlockOn) => "block_on".to_owned(),
        (Waits::Blocked, _) => site.cause.name().to_owned(),
        (state, _) => word(state).to_owned(),
    }
}

/// The function, its place and its process, as far as there is room.
fn function(report: &Report, site: &Site, look: Look, room: usize) -> String {
    let mut name = plain(&display_name(&site.function), look);
    let dot = look.dot();
    let task = site.task.as_deref().map(display_name);
    let task = task.filter(|task| *task != name).map(|task| {
        let last = task.rsplit("::").next().unwrap_or(&task);
        format!(" for {}", plain(last, look))
    });
    let place = place(site).map(|place| format!("{dot}{}", plain(&place, look)));
    let process = process(report, site.pid).map(|of| format!("{dot}{}", plain(&of, look)));
    for more in [place, process, task].into_iter().flatten() {
        if super::text::width(&name) + super::text::width(&more) <= room {
            name.push_str(&more);
        }
    }
    cut_start(&name, room, look)
}

/// The call with its object.
fn call(site: &Site) -> String {
    if site.call.is_empty() {
        display_name(&site.wait)
    } else {
        sanitize(&site.call).into_owned()
    }
}

/// Who ended most of the waits.
fn waker(report: &Report, site: &Site) -> String {
    let all: u64 = site.wakers.iter().map(|waker| waker.waits).sum();
    let Some(most) = site.wakers.first() else {
        return "-".to_owned();
    };
    let who = one_waker(report, site.cause, most);
    if site.wakers.len() == 1 {
        who
    } else {
        format!("{} {who}", percent(most.waits as f64 / all.max(1) as f64))
    }
}

fn one_waker(report: &Report, cause: Cause, waker: &WakerTotal) -> String {
    let name = sanitize(&waker.thread);
    match (&waker.function, waker.pid) {
        (Some(function), _) => {
            let function = display_name(function);
            let last = function.rsplit("::").next().unwrap_or(&function);
            format!("{last} in {name}")
        }
        (None, Pid(0)) if cause == Cause::Sleep => "a timer".to_owned(),
        (None, Pid(0)) => name.into_owned(),
        (None, pid) if report.targets.iter().any(|target| target.pid == pid) => name.into_owned(),
        (None, pid) => format!("{name} ({pid})"),
    }
}
