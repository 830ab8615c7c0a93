//! Colours and signs.

use crate::cause::Cause;
use crate::runtime::State;
use ratatui::style::{Color, Modifier, Style};

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it has colours. Meaning never hangs on colour alone.
    pub color: bool,
    /// Whether it shows ASCII only.
    pub ascii: bool,
}

/// The order of states in bars.
pub(super) const IN_BARS: [State; 10] = [
    State::Blocked,
    State::Runtime,
    State::Running,
    State::Runnable,
    State::Stopped,
    State::Unknown,
    State::HandedOff,
    State::Pool,
    State::Other,
    State::Idle,
];

impl Look {
    fn colored(self, color: Color) -> Style {
        if self.color {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }

    /// Headings.
    pub(super) const fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What can wait: labels, keys.
    pub(super) fn dim(self) -> Style {
        self.colored(Color::DarkGray)
    }

    /// Bad news.
    pub(super) fn bad(self) -> Style {
        self.colored(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Good news.
    pub(super) fn good(self) -> Style {
        self.colored(Color::Green).add_modifier(Modifier::BOLD)
    }

    /// Doubtful news.
    pub(super) fn warn(self) -> Style {
        self.colored(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// The chosen line.
    pub(super) const fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The colour of a state.
    pub(super) fn of_state(self, state: State) -> Style {
        match state {
            State::Blocked => self.colored(Color::Red),
            State::Runtime | State::Runnable => self.colored(Color::Yellow),
            State::Running => self.colored(Color::Green),
            State::HandedOff | State::Pool => self.colored(Color::Blue),
            State::Unknown => self.colored(Color::Magenta),
            State::Idle | State::Stopped | State::Other => self.dim(),
        }
    }

    /// The sign of a state in bars.
    pub(super) const fn in_bar(self, state: State) -> char {
        match (state, self.ascii) {
            (State::Blocked, false) => '█',
            (State::Blocked, true) => '#',
            (State::Runtime, false) => '▓',
            (State::Runtime, true) => '%',
            (State::Running, false) => '▒',
            (State::Running, true) => '+',
            (State::Runnable, false) => '░',
            (State::Runnable, true) => '~',
            (State::Idle, false) => '·',
            (State::Idle, true) => '.',
            _ => of_lane(state),
        }
    }

    /// Signs of a trend, from nothing to all.
    pub(super) const fn steps(self) -> &'static [char] {
        if self.ascii {
            &[' ', '.', ':', '-', '=', '+', '*', '#', '@']
        } else {
            &[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']
        }
    }

    /// What stands for something left out.
    pub(super) const fn ellipsis(self) -> &'static str {
        if self.ascii { ".." } else { "…" }
    }

    /// What stands between facts.
    pub(super) const fn dot(self) -> &'static str {
        if self.ascii { " - " } else { " · " }
    }
}

/// The sign of a state in lanes, where a blocked thread has the letter of the cause. ASCII everywhere.
pub(super) const fn of_lane(state: State) -> char {
    match state {
        State::Blocked => 'U',
        State::Runtime => '%',
        State::Running => '+',
        State::Runnable => '~',
        State::Idle => '.',
        State::HandedOff | State::Pool => '^',
        State::Stopped => '!',
        State::Unknown => '?',
        State::Other => '-',
    }
}

/// The letter of a cause.
pub(super) const fn letter(cause: Cause) -> char {
    match cause {
        Cause::FileIo => 'F',
        Cause::Network => 'N',
        Cause::Pipe => 'P',
        Cause::Stdio => 'O',
        Cause::Gil => 'G',
        Cause::Sleep => 'S',
        Cause::Lock => 'L',
        Cause::Condvar => 'C',
        Cause::Futex => 'Y',
        Cause::Channel => 'H',
        Cause::NestedBlockOn => 'B',
        Cause::ThreadJoin => 'J',
        Cause::ChildProcess => 'X',
        Cause::Dns => 'D',
        Cause::PageFault => 'A',
        Cause::Memory => 'M',
        Cause::FileLock => 'K',
        Cause::Poll => 'E',
        Cause::Other => 'U',
    }
}

/// The word for a state.
pub(super) const fn word(state: State) -> &'static str {
    match state {
        State::Runnable => "waiting CPU",
        State::Runtime => "in tokio",
        _ => state.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_a_letter_of_its_own() {
        let mut letters: Vec<char> = Cause::ALL.iter().map(|cause| letter(*cause)).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), Cause::ALL.len());
    }
}
