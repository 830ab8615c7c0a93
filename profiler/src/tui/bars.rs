//! Bars of states and trends.

use super::look::{IN_BARS, Look};
use crate::report::StateTimes;
use crate::units::Nanos;
use ratatui::text::Span;

/// A bar of `columns` cells, one stretch a state; what is not nothing has a cell as long as there are
/// enough.
pub(super) fn bar(states: &StateTimes, columns: usize, look: Look) -> Vec<Span<'static>> {
    let whole: Nanos = states.values().copied().sum();
    if whole == Nanos::ZERO {
        return vec![Span::raw(" ".repeat(columns))];
    }
    let shares = IN_BARS.map(|state| {
        let time = states.get(&state).copied().unwrap_or_default();
        time.share_of(whole)
    });
    let cells = cells(&shares, columns);
    let parts = IN_BARS.iter().zip(cells);
    parts
        .filter(|(_, cells)| *cells > 0)
        .map(|(state, cells)| {
            let text: String = std::iter::repeat_n(look.in_bar(*state), cells).collect();
            Span::styled(text, look.of_state(*state))
        })
        .collect()
}

/// Cells for shares that sum to 1: at least one for what is not nothing, and all together `columns`.
fn cells(shares: &[f64], columns: usize) -> Vec<usize> {
    let mut cells: Vec<usize> = shares
        .iter()
        .map(|share| {
            let exact = (share * columns as f64).floor() as usize;
            if *share > 0.0 { exact.max(1) } else { 0 }
        })
        .collect();
    loop {
        let sum: usize = cells.iter().sum();
        let largest = (0..cells.len()).max_by_key(|index| cells.get(*index).copied());
        let Some(largest) = largest.and_then(|index| cells.get_mut(index)) else {
            return cells;
        };
        if sum > columns && *largest > 0 {
            *largest -= 1;
        } else if sum < columns && sum > 0 {
            // What rounding left over goes to the largest.
            *largest += columns - sum;
        } else {
            return cells;
        }
    }
}

/// The last of `points` in `columns` cells; of several points in a cell the highest. Cells keep their
/// points while time goes on: `dropped` points came before the first.
pub(super) fn trend(points: &[f64], dropped: u64, columns: usize, look: Look) -> String {
    if columns == 0 {
        return String::new();
    }
    let group = points.len().div_ceil(columns).max(1);
    let begin = usize::try_from(dropped % group as u64).unwrap_or(0);
    let mut highest: Vec<f64> = Vec::new();
    for (index, point) in points.iter().enumerate() {
        let cell = (index + begin) / group;
        if cell >= highest.len() {
            highest.push(0.0);
        }
        if let Some(last) = highest.last_mut() {
            *last = last.max(*point);
        }
    }
    let skipped = highest.len().saturating_sub(columns);
    let text: String = highest
        .iter()
        .skip(skipped)
        .map(|share| step(*share, look))
        .collect();
    let pad = columns.saturating_sub(highest.len());
    format!("{}{text}", " ".repeat(pad))
}

fn step(share: f64, look: Look) -> char {
    let steps = look.steps();
    let top = steps.len().saturating_sub(1);
    let index = (share.clamp(0.0, 1.0) * top as f64).round() as usize;
    // What is not nothing is seen.
    let index = if share > 0.0 { index.max(1) } else { 0 };
    steps.get(index.min(top)).copied().unwrap_or(' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::State;

    const LOOK: Look = Look {
        color: false,
        ascii: true,
    };

    fn text(states: &StateTimes, columns: usize) -> String {
        let spans = bar(states, columns, LOOK);
        spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn a_bar_is_as_wide_as_asked_and_shows_what_is_there() {
        let mut states = StateTimes::new();
        assert_eq!(text(&states, 4), "    ");
        states.insert(State::Blocked, Nanos(1));
        states.insert(State::Idle, Nanos(9_999));
        assert_eq!(text(&states, 5), "#....");
        states.insert(State::Running, Nanos(10_000));
        assert_eq!(text(&states, 10), "#+++++....");
        assert_eq!(text(&states, 2), "#+");
        assert_eq!(text(&states, 0), "");
    }

    #[test]
    fn a_trend_ends_at_the_right_and_keeps_peaks() {
        assert_eq!(trend(&[0.0, 0.5, 1.0], 0, 5, LOOK), "   =@");
        assert_eq!(trend(&[0.001], 0, 1, LOOK), ".");
        assert_eq!(trend(&[0.0, 1.0, 0.0, 0.0, 0.5, 0.0], 0, 3, LOOK), "@ =");
        assert_eq!(trend(&[1.0, 0.0, 0.0, 0.5, 0.0], 1, 3, LOOK), "@ =");
        assert_eq!(trend(&[1.0], 0, 0, LOOK), "");
    }
}
