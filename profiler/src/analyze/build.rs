//! From a recording to a report.

use super::analyzer::Analyzer;
use crate::recording::Recording;
use crate::report::{Filter, Keep, Report};
use std::ops::Range;

/// Sums all of `recording` up. Pure: the same recording gives the same report.
#[must_use]
pub fn build(recording: &Recording) -> Report {
    build_range(recording, 0..recording.intervals.len())
}

/// Sums some intervals of `recording` up, by their indices. What lies beyond its end is left out.
#[must_use]
pub fn build_range(recording: &Recording, intervals: Range<usize>) -> Report {
    summed_up(recording, intervals, Keep::NOTHING)
}

/// As [`build`], with what `keep` says one by one: [`Report::detail`].
#[must_use]
pub fn build_keeping(recording: &Recording, keep: Keep) -> Report {
    summed_up(recording, 0..recording.intervals.len(), keep)
}

/// As [`build_keeping`], and then what `filter` chooses of it.
#[must_use]
pub fn build_filtered(recording: &Recording, keep: Keep, filter: &Filter) -> Report {
    let mut analyzer = Analyzer::new(&recording.header);
    analyzer.keep(keep);
    analyzer.keep_for(filter);
    for interval in &recording.intervals {
        analyzer.merge(&recording.tables, interval);
    }
    let (_, chosen) = analyzer.filtered(&recording.header, &recording.tables, filter);
    chosen
}

fn summed_up(recording: &Recording, intervals: Range<usize>, keep: Keep) -> Report {
    let mut analyzer = Analyzer::new(&recording.header);
    analyzer.keep(keep);
    let all = recording.intervals.iter();
    for interval in all.take(intervals.end).skip(intervals.start) {
        analyzer.merge(&recording.tables, interval);
    }
    analyzer.report(&recording.header, &recording.tables)
}

#[cfg(test)]
mod interval_tests;
#[cfg(test)]
mod tests;
