//! Standard error for messages and the log, which are held back while the terminal shows something
//! else.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

/// More than this is left out.
const MOST: usize = 64 * 1024;

/// What is held back; none where nothing is to be.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// Where they go.
pub(crate) struct HeldLog;

impl Write for HeldLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(held) => {
                let room = MOST.saturating_sub(held.len());
                held.extend(bytes.iter().take(room));
                Ok(bytes.len())
            }
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// From now on nothing is written.
pub(crate) fn hold() {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.get_or_insert_with(Vec::new);
}

/// Writes what was held back, and from now on everything at once.
pub(crate) fn release() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(held) = held {
        let _ = io::stderr().write_all(&held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_has_a_bound() {
        hold();
        let mut log = HeldLog;
        let line = [b'x'; 1000];
        for _ in 0..100 {
            assert_eq!(log.write(&line).expect("memory"), line.len());
        }
        let held = HELD.lock().expect("no panic").take();
        assert_eq!(held.map(|held| held.len()), Some(MOST));
    }
}
