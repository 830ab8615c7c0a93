//! The runtimes: what their workers did, and whether any task could run.

use super::bars::{bar, trend};
use super::look::{IN_BARS, Look, word};
use super::text::{left, plain, process, width};
use super::view::View;
use crate::counted::counted;
use crate::render::{duration, percent};
use crate::report::{RuntimeKind, RuntimeReport, Trend};
use crate::runtime::State;
use crate::units::Nanos;
use ratatui::text::{Line, Span};

/// From here on what the bar shows stands beside it.
const WIDE: usize = 110;
/// Columns of a bar at most.
const BAR: usize = 60;
/// Share of the time from which on its state is named.
const NAMED: f64 = 0.0005;

/// Lines of one runtime.
pub(super) const fn height(columns: usize) -> usize {
    if columns < WIDE { 3 } else { 2 }
}

/// As many runtimes as there is room for.
pub(super) fn lines(
    view: &View,
    look: Look,
    (columns, height): (usize, usize),
) -> Vec<Line<'static>> {
    let runtimes = &view.report.runtimes;
    if runtimes.is_empty() {
        let text = "no worker of a runtime was seen";
        return vec![Line::styled(text, look.dim())];
    }
    let each = self::height(columns);
    let mut shown = (height / each).min(runtimes.len()).max(1);
    if shown < runtimes.len() && shown * each >= height && shown > 1 {
        // Room for how many more there are.
        shown -= 1;
    }
    let mut lines = Vec::new();
    for (index, runtime) in runtimes.iter().take(shown).enumerate() {
        let trend = view.trends.get(index);
        lines.extend(one(view, runtime, trend, look, columns));
    }
    if shown < runtimes.len() && lines.len() < height {
        let more = (runtimes.len() - shown) as u64;
        let text = format!("and {}", counted(more, "more runtime", "more runtimes"));
        lines.push(Line::styled(text, look.dim()));
    }
    lines
}

fn one(
    view: &View,
    runtime: &RuntimeReport,
    trend: Option<&Trend>,
    look: Look,
    columns: usize,
) -> Vec<Line<'static>> {
    let mut title = vec![runtime.id.clone()];
    title.extend(process(&view.report, runtime.pid));
    title.push(match runtime.kind {
        RuntimeKind::MultiThread => counted(u64::from(runtime.workers), "worker", "workers"),
        RuntimeKind::CurrentThread => "current_thread".to_owned(),
        RuntimeKind::LocalSet => "LocalSet".to_owned(),
    });
    let title = plain(&title.join(" "), look);
    let shares = shares(runtime, look);
    let wide = columns >= WIDE;
    // Bars of several runtimes begin in one column.
    let label = if columns < 80 { 20 } else { 34 };
    let beside = if wide {
        width_of(&shares).max(56) + 2
    } else {
        0
    };
    let room = columns.saturating_sub(label + 1 + beside).min(BAR);
    let mut first = vec![
        Span::styled(left(&title, label, look), look.heading()),
        Span::raw(" "),
    ];
    first.extend(bar(&runtime.states, room, look));
    let mut lines = Vec::new();
    if wide {
        first.push(Span::raw("  "));
        first.extend(shares);
        lines.push(Line::from(first));
    } else {
        lines.push(Line::from(first));
        let mut second = vec![Span::raw("  ")];
        second.extend(shares);
        lines.push(Line::from(second));
    }
    lines.push(over_time(runtime, trend, look, columns));
    lines
}

fn width_of(spans: &[Span<'_>]) -> usize {
    spans.iter().map(|span| width(&span.content)).sum()
}

/// `blocked 78.2 %  running 3.1 %  idle 18.7 %`.
fn shares(runtime: &RuntimeReport, look: Look) -> Vec<Span<'static>> {
    let whole: Nanos = runtime.states.values().copied().sum();
    let mut spans = Vec::new();
    for state in IN_BARS {
        let time = runtime.states.get(&state).copied().unwrap_or_default();
        let share = time.share_of(whole);
        let always = matches!(state, State::Blocked | State::Running | State::Idle);
        if share < NAMED && !always {
            continue;
        }
        let style = if state == State::Blocked && time > Nanos::ZERO {
            look.bad()
        } else {
            Default::default()
        };
        if !spans.is_empty() {
            spans.push(Span::raw("  "));
        }
        let text = format!("{} {}", word(state), percent(share));
        spans.push(Span::styled(text, style));
    }
    spans
}

/// Whether any task could run, and how it was in the last minutes.
fn over_time(
    runtime: &RuntimeReport,
    trend: Option<&Trend>,
    look: Look,
    columns: usize,
) -> Line<'static> {
    let starved = if runtime.starved_ns == Nanos::ZERO {
        "  never starved".to_owned()
    } else {
        format!(
            "  starved {}, {} at a stretch",
            duration(runtime.starved_ns),
            duration(runtime.starved_max_ns)
        )
    };
    let starved = plain(&starved, look);
    let style = if runtime.starved_ns == Nanos::ZERO {
        look.dim()
    } else {
        look.bad()
    };
    let label = if columns < 80 { 37 } else { 42 };
    let mut spans = vec![Span::styled(left(&starved, label, look), style)];
    let Some(history) = trend else {
        return Line::from(spans);
    };
    let room = columns.saturating_sub(label);
    let labels = width(" blocked ") + width("  starved ");
    let each = room.saturating_sub(labels) / 2;
    let (blocked, starved) = (State::Blocked, State::Runnable);
    let one = |points: &[f64], columns| self::trend(points, history.dropped, columns, look);
    if each >= 10 {
        let each = each.min(BAR);
        spans.push(Span::styled(" blocked ", look.dim()));
        let text = one(&history.blocked, each);
        spans.push(Span::styled(text, look.of_state(blocked)));
        spans.push(Span::styled("  starved ", look.dim()));
        let text = one(&history.starved, each);
        spans.push(Span::styled(text, look.of_state(starved)));
    } else {
        spans.push(Span::styled(" blocked ", look.dim()));
        let text = one(&history.blocked, room.saturating_sub(9));
        spans.push(Span::styled(text, look.of_state(blocked)));
    }
    Line::from(spans)
}
