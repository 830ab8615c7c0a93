//! Names of code that was made at run time, as its compiler wrote them down: `perf-PID.map`, lines of
//! `START SIZE NAME` in hexadecimal (`tools/perf/Documentation/jit-interface.txt` in Linux).
//!
//! Whoever owns the process wrote the file: its names count for that process alone, and no rule looks
//! at them.

use crate::units::Addr;
use std::sync::Arc;

/// Entries of one file, and bytes of one name, that are kept.
const MAX_ENTRIES: usize = 1 << 18;
const MAX_NAME: usize = 256;

/// The names of one process's code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerfMap {
    /// Sorted by begin; of those with the same the one that was written last comes last.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    begin: u64,
    len: u64,
    name: Arc<str>,
}

impl PerfMap {
    /// Reads a file's bytes. Lines that are none of its format are left out, and those beyond a number.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> PerfMap {
        let lines = bytes.split(|byte| *byte == b'\n').filter_map(entry);
        let mut entries: Vec<Entry> = lines.take(MAX_ENTRIES).collect();
        entries.sort_by_key(|entry| entry.begin);
        PerfMap { entries }
    }

    /// The name of the code at an address.
    #[must_use]
    pub fn name(&self, at: Addr) -> Option<&Arc<str>> {
        let after = self.entries.partition_point(|entry| entry.begin <= at.0);
        let entry = self.entries.get(after.checked_sub(1)?)?;
        (at.0 - entry.begin < entry.len).then_some(&entry.name)
    }

    /// Whether it has no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let mut number = || {
        let digits = std::str::from_utf8(parts.next()?).ok()?;
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        u64::from_str_radix(digits, 16).ok()
    };
    let (begin, len) = (number()?, number()?);
    let name = parts.next()?.trim_ascii();
    let name = String::from_utf8_lossy(name.get(..MAX_NAME).unwrap_or(name));
    (!name.is_empty()).then(|| Entry {
        begin,
        len,
        name: name.as_ref().into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_name_that_was_written_last() {
        let text = b"7f0010 20 LazyCompile:~first app.js:1\n\
            0x7f0100 0x10 second\n\
            nonsense\n\
            7f0200 10\n\
            7f0300 ffffffffffffffff far\n\
            7f0010 20 LazyCompile:*first app.js:1 (optimized)\n";
        let map = PerfMap::parse(text);
        let name = |at| map.name(Addr(at)).map(AsRef::as_ref);
        let first = Some("LazyCompile:*first app.js:1 (optimized)");
        assert_eq!([name(0x7f_0010), name(0x7f_002f)], [first, first]);
        assert_eq!(name(0x7f_0030), None);
        assert_eq!(name(0x7f_0105), Some("second"));
        assert_eq!(name(0x7f_0200), None);
        assert_eq!(name(u64::MAX), Some("far"));
        assert_eq!(name(0), None);
    }

    #[test]
    fn hostile_files_stay_small() {
        let long = format!("1 1 {}\n", "é".repeat(1000));
        let map = PerfMap::parse(long.as_bytes());
        assert!(
            map.name(Addr(1))
                .is_some_and(|name| name.len() <= 2 * MAX_NAME)
        );
        let many = "1 1 x\n".repeat(MAX_ENTRIES + 5);
        assert_eq!(PerfMap::parse(many.as_bytes()).entries.len(), MAX_ENTRIES);
        assert!(PerfMap::parse(b"\xff \n\n -1 2 x\n").is_empty());
    }
}
