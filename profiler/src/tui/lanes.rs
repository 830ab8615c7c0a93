//! Workers as lanes that scroll with time: a cell is a slice of time.

use super::look::{Look, letter, of_lane, word};
use super::state::State;
use super::text::{left, plain};
use super::view::View;
use crate::cause::Cause;
use crate::counted::counted;
use crate::render::{duration, sanitize};
use crate::report::{Lane, SLICE, Slice};
use crate::runtime::State as Doing;
use crate::units::Nanos;
use ratatui::text::{Line, Span};
use std::collections::BTreeSet;

/// A cell whose worker was blocked for this share of it says so.
const BLOCKED: f64 = 0.05;
/// Capital letters from this share on.
const MOSTLY: f64 = 0.5;

/// What a cell shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    sign: char,
    state: Doing,
    cause: Option<Cause>,
}

/// A heading and as many lanes as there is room for.
pub(super) fn lines(
    view: &View,
    state: &State,
    look: Look,
    (columns, height): (usize, usize),
) -> Vec<Line<'static>> {
    if height == 0 || view.lanes.is_empty() {
        return Vec::new();
    }
    let rows = height.saturating_sub(1);
    let label = if columns < 80 { 16 } else { 28 };
    let room = columns.saturating_sub(label + 1);
    let each = 1_u64 << state.zoom;
    // The last cell is one whose end is known.
    let end = view.lanes.iter().map(Lane::end).max().unwrap_or_default() / each;
    let from = end.saturating_sub(room as u64);
    let lanes = ordered(view);
    let mut shown = rows.min(lanes.len());
    if shown < lanes.len() && shown > 1 {
        shown -= 1;
    }
    let mut lines = Vec::new();
    let mut causes = BTreeSet::new();
    let mut states = BTreeSet::new();
    for (runtime, lane) in lanes.iter().take(shown) {
        let name = format!("{runtime} {} {}", lane.tid, sanitize(&lane.name));
        let name = left(&plain(&name, look), label, look);
        let mut spans = vec![Span::raw(name), Span::raw(" ")];
        for cell in cells(lane, from, end, each) {
            let Some(cell) = cell else {
                push(&mut spans, ' ', Default::default());
                continue;
            };
            match cell.cause {
                Some(cause) => {
                    causes.insert(cause);
                }
                None => {
                    states.insert(cell.state);
                }
            }
            push(&mut spans, cell.sign, look.of_state(cell.state));
        }
        lines.push(Line::from(spans));
    }
    if shown < lanes.len() && lines.len() < rows {
        let more = (lanes.len() - shown) as u64;
        let text = format!("and {}", counted(more, "more worker", "more workers"));
        lines.push(Line::styled(text, look.dim()));
    }
    lines.insert(0, heading(each, &causes, &states, look));
    lines
}

/// Appends a sign to the last span, where that has the same style.
fn push(spans: &mut Vec<Span<'static>>, sign: char, style: ratatui::style::Style) {
    match spans.last_mut() {
        Some(last) if last.style == style => last.content.to_mut().push(sign),
        _ => spans.push(Span::styled(sign.to_string(), style)),
    }
}

fn heading(
    each: u64,
    causes: &BTreeSet<Cause>,
    states: &BTreeSet<Doing>,
    look: Look,
) -> Line<'static> {
    let cell = plain(&duration(Nanos(SLICE.0.saturating_mul(each))), look);
    let mut legend = vec![format!("a cell is {cell}")];
    legend.extend(
        causes
            .iter()
            .map(|cause| format!("{} {}", letter(*cause), cause.name())),
    );
    if !causes.is_empty() {
        legend.push("small: less than half".to_owned());
    }
    legend.extend(
        states
            .iter()
            .map(|state| format!("{} {}", of_lane(*state), word(*state))),
    );
    Line::from(vec![
        Span::styled("WORKERS ", look.heading()),
        Span::styled(legend.join("  "), look.dim()),
    ])
}

/// The lanes with their runtimes, by runtime and thread.
fn ordered(view: &View) -> Vec<(&str, &Lane)> {
    let lanes = view.lanes.iter();
    let mut lanes: Vec<(&str, &Lane)> = lanes
        .map(|lane| (lane.runtime.as_deref().unwrap_or("-"), lane))
        .collect();
    let place = |id: &str| {
        let mut runtimes = view.report.runtimes.iter();
        runtimes
            .position(|runtime| runtime.id == id)
            .unwrap_or(usize::MAX)
    };
    lanes.sort_by_key(|(runtime, lane)| (place(runtime), lane.pid, lane.tid));
    lanes
}

/// Cells `from` to `end`, of `each` slices.
fn cells(lane: &Lane, from: u64, end: u64, each: u64) -> impl Iterator<Item = Option<Cell>> {
    (from..end).map(move |number| cell(&lane.between(number.saturating_mul(each), each)))
}

fn cell(slice: &Slice) -> Option<Cell> {
    let state = slice.state()?;
    let share = slice.time(Doing::Blocked).share_of(slice.whole());
    if share < BLOCKED {
        // A little blocked time is not what it did.
        let state = if state == Doing::Blocked {
            Doing::Unknown
        } else {
            state
        };
        return Some(Cell {
            sign: of_lane(state),
            state,
            cause: None,
        });
    }
    let cause = slice.cause().unwrap_or(Cause::Other);
    let letter = letter(cause);
    Some(Cell {
        sign: if share < MOSTLY {
            letter.to_ascii_lowercase()
        } else {
            letter
        },
        state: Doing::Blocked,
        cause: Some(cause),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(blocked: u64, running: u64) -> Slice {
        let mut slice = Slice::default();
        slice.add(Doing::Blocked, Nanos(blocked), Some(Cause::Lock));
        slice.add(Doing::Running, Nanos(running), None);
        slice
    }

    #[test]
    fn a_cell_tells_how_much_was_blocked_by_what() {
        let sign = |slice: &Slice| cell(slice).map(|cell| cell.sign);
        assert_eq!(sign(&slice(60, 40)), Some('L'));
        assert_eq!(sign(&slice(40, 60)), Some('l'));
        assert_eq!(sign(&slice(4, 96)), Some('+'));
        assert_eq!(sign(&Slice::default()), None);
    }
}
