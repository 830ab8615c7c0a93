//! The names of code that a process made at run time, see [`PerfMap`].

use crate::process::Target;
use crate::process::deadline::Reader;
use crate::symbolize::PerfMap;
use crate::units::Addr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest file that is read, in bytes. Of a longer one, the begin.
const MAX_FILE: u64 = 32 << 20;
/// Between two looks at it, of which each may take some ten milliseconds.
const LOOK: Duration = Duration::from_secs(1);
/// So often in vain, and nobody looks any more.
const MAX_VAIN: u32 = 20;
/// Bytes read at once: what is waited for at most is limited by the read.
const CHUNK: usize = 256 << 10;

/// What a process has written so far.
#[derive(Clone, Debug, Default)]
pub(super) struct MadeCode {
    names: PerfMap,
    /// The length of what was read.
    read: u64,
    last: Option<Instant>,
    vain: u32,
}

impl MadeCode {
    /// As if this were what the process has written.
    #[cfg(test)]
    pub(super) fn of(text: &str) -> MadeCode {
        MadeCode {
            names: PerfMap::parse(text.as_bytes()),
            ..MadeCode::default()
        }
    }

    /// The name of the code at an address, by what was read so far.
    pub(super) fn name(&self, at: Addr) -> Option<&Arc<str>> {
        self.names.name(at)
    }

    /// Reads what there is by now, where one of these addresses has no name and something may have
    /// been written.
    pub(super) fn look(&mut self, target: &Target, mut unnamed: impl Iterator<Item = Addr>) {
        let due = self.last.is_none_or(|last| last.elapsed() >= LOOK);
        if !due || self.vain >= MAX_VAIN || unnamed.all(|at| self.name(at).is_some()) {
            return;
        }
        self.last = Some(Instant::now());
        match self.read(target) {
            Ok(true) => self.vain = 0,
            Ok(false) => self.vain += 1,
            Err(error) => {
                self.vain += 1;
                tracing::debug!("no names of made code of {}: {error}", target.pid());
            }
        }
    }

    /// Whether there was more than before.
    fn read(&mut self, target: &Target) -> io::Result<bool> {
        let file = target.open_perf_map()?;
        let file = Reader::of(&file)?;
        let len = file.len().min(MAX_FILE);
        if len == self.read {
            return Ok(false);
        }
        let mut bytes = vec![0; usize::try_from(len).unwrap_or_default()];
        let mut filled = 0;
        for chunk in bytes.chunks_mut(CHUNK) {
            let read = file.read_full(chunk, filled as u64)?;
            filled += read;
            if read < chunk.len() {
                break;
            }
        }
        bytes.truncate(filled);
        self.names = PerfMap::parse(&bytes);
        self.read = len;
        Ok(true)
    }
}
