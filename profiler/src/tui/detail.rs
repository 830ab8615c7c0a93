//! All of one site: what the report says of it, who was to blame, its stack.

use super::look::Look;
use super::state::Looked;
use super::text::{cut_end, cut_start, left, place, plain, right, width};
use super::view::View;
use crate::render::{Options, display_name, display_path, duration, percent, site_text};
use crate::report::{Blame, BlameChain, BlameEnd, Site};
use crate::symbolize::{FrameRef, Space};
use ratatui::text::{Line, Span};

/// Chains that are shown.
const CHAINS: usize = 8;

/// What of it fits.
pub(super) fn lines(
    view: &View,
    looked: &Looked,
    look: Look,
    (columns, height): (usize, usize),
) -> Vec<Line<'static>> {
    let all = all(view, &looked.site, look, columns);
    let most = all.len().saturating_sub(height);
    let skipped = looked.scroll.min(most);
    all.into_iter().skip(skipped).take(height).collect()
}

fn all(view: &View, site: &Site, look: Look, columns: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let name = plain(&display_name(&site.function), look);
    let mut first = vec![Span::styled(
        cut_start(&name, columns, look),
        look.heading(),
    )];
    if let Some(place) = place(site).filter(|place| width(place) + width(&name) + 2 <= columns) {
        first.push(Span::styled(
            format!("  {}", plain(&place, look)),
            look.dim(),
        ));
    }
    lines.push(Line::from(first));
    let facts = format!(
        "  {} in {} waits, {} of harm",
        duration(site.total_ns),
        site.waits,
        duration(site.harm_ns)
    );
    lines.push(Line::raw(plain(&facts, look)));
    lines.extend(report(view, site, look, columns));
    if let Some(blame) = &site.blame {
        lines.extend(chains(blame, look, columns));
    }
    lines.push(Line::styled("STACK", look.heading()));
    for (index, frame) in site.stack.iter().enumerate() {
        lines.push(one_frame(index, frame, look, columns));
    }
    if site.truncated.is_some() {
        lines.push(Line::styled("  the stack ends early", look.warn()));
    }
    lines
}

/// What the text report says of it.
fn report(view: &View, site: &Site, look: Look, columns: usize) -> Vec<Line<'static>> {
    let options = Options {
        width: columns,
        ascii: look.ascii,
        ..Options::default()
    };
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = site_text(&view.report, site, &options, &mut text);
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(|line| cut_end(line, columns, look));
    lines.map(Line::raw).collect()
}

/// What those that ended the waits did meanwhile, who waited for whom.
fn chains(blame: &Blame, look: Look, columns: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::styled(
        "WHOEVER ENDED THE WAITS WAS MEANWHILE",
        look.heading(),
    )];
    for chain in blame.chains.iter().take(CHAINS) {
        let share = percent(chain.total_ns.share_of(blame.total_ns));
        let text = format!(
            "{} {}  {}",
            right(&share, 8, look),
            right(&plain(&duration(chain.total_ns), look), 9, look),
            plain(&words(chain), look)
        );
        lines.push(Line::raw(cut_end(&text, columns, look)));
    }
    lines
}

/// `in price (lock), for a thread in ask_blocking (network)`.
fn words(chain: &BlameChain) -> String {
    let links: Vec<String> = chain
        .links
        .iter()
        .map(|link| {
            format!(
                "in {} ({})",
                display_name(&link.function),
                link.cause.name()
            )
        })
        .collect();
    let end = match (chain.end, links.is_empty()) {
        (BlameEnd::Running, true) => "running",
        (BlameEnd::RunQueue, true) => "waiting for a CPU",
        (BlameEnd::ShortWaits, true) => "in short waits",
        (BlameEnd::Idle, true) => "idle",
        (BlameEnd::Stopped, true) => "stopped from outside",
        (BlameEnd::RunningOrIdle, true) => "running or idle",
        (BlameEnd::Cycle, true) => "waiting for this thread",
        (BlameEnd::Outside | BlameEnd::Unknown, true) => "not known",
        (BlameEnd::Outside, false) => "",
        (BlameEnd::Running, false) => "one that ran",
        (BlameEnd::RunQueue, false) => "one that wanted a CPU",
        (BlameEnd::ShortWaits, false) => "one in short waits",
        (BlameEnd::Idle, false) => "one that was idle",
        (BlameEnd::Stopped, false) => "one that was stopped from outside",
        (BlameEnd::RunningOrIdle, false) => "one that ran or was idle",
        (BlameEnd::Cycle, false) => "one of these threads (a circle)",
        (BlameEnd::Unknown, false) => "one of which no more is known",
    };
    let mut parts = links;
    if !end.is_empty() {
        parts.push(end.to_owned());
    }
    parts.join(", for ")
}

fn one_frame(index: usize, frame: &FrameRef, look: Look, columns: usize) -> Line<'static> {
    let number = if frame.inlined && frame.space == Space::User {
        plain("│", look)
    } else {
        format!("#{index}")
    };
    let mut name = plain(&display_name(&frame.function), look);
    if frame.space == Space::Kernel {
        name.push_str(" [kernel]");
    }
    let room = columns.saturating_sub(6);
    let name = cut_start(&name, room, look);
    let file = frame.file.as_ref().map(|file| display_path(file));
    let place = file.map(|file| match frame.line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    });
    let left_over = room.saturating_sub(width(&name) + 2);
    let mut spans = vec![
        Span::styled(left(&right(&number, 4, look), 6, look), look.dim()),
        Span::raw(name),
    ];
    if let Some(place) = place.filter(|_| left_over > 8) {
        let place = cut_start(&plain(&place, look), left_over, look);
        spans.push(Span::styled(format!("  {place}"), look.dim()));
    }
    Line::from(spans)
}
