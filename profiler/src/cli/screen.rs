//! The terminal while it shows a view, and its way back.

use super::held_log;
use crate::tui::{Key, Look, State, View, draw};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, BufWriter, Stdin, Stdout};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

/// To the other screen (xterm's private mode 1049) and back, with the cursor hidden and shown (DECTCEM).
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// For how long a terminal that takes nothing is waited for on the way back.
const PATIENCE: Duration = Duration::from_millis(200);

/// How the terminal was before; none while nothing is shown on it.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A terminal that shows a view.
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    look: Look,
}

impl Screen {
    /// Makes the terminal ready. Whatever happens afterwards, a panic too, [`restore`] is called.
    ///
    /// # Errors
    /// Where standard input or output is no terminal.
    pub(crate) fn enter(look: Look) -> io::Result<Screen> {
        let before = tcgetattr(io::stdin())?;
        let area = area()?;
        restore_on_panic();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before.clone());
        held_log::hold();
        let mut raw = before;
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        write(ENTER)?;
        // The settings know better than the environment that the backend asks.
        ratatui::crossterm::style::force_color_output(true);
        let backend = CrosstermBackend::new(BufWriter::new(io::stdout()));
        // Of a fixed size: the backend would start a program to learn another.
        let viewport = Viewport::Fixed(area);
        let terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
        Ok(Screen { terminal, look })
    }

    /// Draws.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub(crate) fn draw(&mut self, view: &View, state: &State) -> io::Result<()> {
        if !is_shown() {
            return Err(io::Error::other("the terminal was given back"));
        }
        let look = self.look;
        self.terminal
            .draw(|frame| draw(view, state, look, frame))
            .map(|_| ())
    }

    /// Takes the terminal's size, and draws everything anew the next time.
    ///
    /// # Errors
    /// Where the terminal is gone.
    pub(crate) fn fit(&mut self) -> io::Result<()> {
        self.terminal.resize(area()?)
    }
}

fn area() -> io::Result<Rect> {
    let size = tcgetwinsize(io::stdout())?;
    // A serial line does not know its size.
    let or = |size: u16, usual: u16| if size == 0 { usual } else { size };
    Ok(Rect::new(0, 0, or(size.ws_col, 80), or(size.ws_row, 24)))
}

fn is_shown() -> bool {
    BEFORE
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_some()
}

/// Gives the terminal back as it was. Again: nothing.
pub(crate) fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(before) = before else { return };
    // Not by way of std's lock, which a thread may hold that waits for the terminal.
    if can_write() {
        let _ = write(LEAVE);
    }
    let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    held_log::release();
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
}

fn write(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(io::stdout(), bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn can_write() -> bool {
    let stdout = io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
    let patience = Timespec::try_from(PATIENCE).ok();
    let ready = poll(&mut fds, patience.as_ref()).unwrap_or(0) > 0;
    ready && fds.iter().all(|fd| fd.revents() == PollFlags::OUT)
}

/// What has been typed; none where the terminal is gone. Does not wait.
pub(crate) fn typed(stdin: &Stdin) -> Option<Vec<Key>> {
    let mut bytes = Vec::new();
    loop {
        let mut fds = [PollFd::new(stdin, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&Timespec::default())).unwrap_or(0) > 0;
        let what = fds.first().map_or(PollFlags::empty(), PollFd::revents);
        if what.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return None;
        }
        if !ready {
            return Some(crate::tui::keys(&bytes));
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) => return None,
            Ok(count) => bytes.extend(buffer.iter().take(count)),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => return None,
        }
    }
}
