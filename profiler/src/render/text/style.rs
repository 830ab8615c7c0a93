//! Colours of the text report. Meaning never hangs on colour alone.

use crate::runtime::State;
use anstyle::{AnsiColor, Style};

/// Plain text.
pub(super) const PLAIN: Style = Style::new();
/// Headings.
pub(super) const HEADING: Style = Style::new().bold();
/// What can wait: labels, paths, rules.
pub(super) const DIM: Style = Style::new().dimmed();
/// The function of a site.
pub(super) const SITE: Style = AnsiColor::Cyan.on_default().bold();
/// Bad news.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Doubtful news.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default().bold();
/// Good news.
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();

/// The colour of a state's bar.
pub(super) const fn of_state(state: State) -> Style {
    match state {
        State::Blocked => AnsiColor::Red.on_default(),
        State::Runtime | State::Runnable => AnsiColor::Yellow.on_default(),
        State::Running => AnsiColor::Green.on_default(),
        State::HandedOff | State::Pool => AnsiColor::Blue.on_default(),
        State::Unknown => AnsiColor::Magenta.on_default(),
        State::Idle | State::Stopped | State::Other => Style::new().dimmed(),
    }
}
