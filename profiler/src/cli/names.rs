//! Names of output files, in which `%p` and `%t` stand for what is known only later.

use super::error::{Error, Result};
use crate::units::Pid;
use jiff::Timestamp;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::SystemTime;

/// A file name with places to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Pid,
    Time,
}

impl Template {
    /// Splits a name as given.
    pub(crate) fn parse(name: &OsStr) -> Result<Template> {
        let mut parts = Vec::new();
        let mut text = Vec::new();
        let mut bytes = name.as_bytes().iter();
        while let Some(&byte) = bytes.next() {
            let part = match byte {
                b'%' => match bytes.next() {
                    Some(b'%') => {
                        text.push(b'%');
                        continue;
                    }
                    Some(b'p') => Part::Pid,
                    Some(b't') => Part::Time,
                    _ => {
                        return Err(Error::usage(format!(
                            "a `%` in the file name {} stands for nothing",
                            name.to_string_lossy()
                        ))
                        .hint("use %p (the pid), %t (the time) or %% (a percent sign)"));
                    }
                },
                _ => {
                    text.push(byte);
                    continue;
                }
            };
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            parts.push(part);
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Template { parts })
    }

    /// The path for a recording of `pid` that started at `time`.
    pub(crate) fn fill(&self, pid: Pid, time: SystemTime) -> PathBuf {
        let mut path = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => path.extend_from_slice(text),
                Part::Pid => path.extend_from_slice(pid.to_string().as_bytes()),
                Part::Time => path.extend_from_slice(compact_utc(time).as_bytes()),
            }
        }
        OsString::from_vec(path).into()
    }
}

/// `time` in UTC as `20261123T224500Z` (ISO 8601, basic format). A time that no calendar has is
/// the beginning of 1970.
fn compact_utc(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn fill(name: &str) -> String {
        let time = UNIX_EPOCH + Duration::from_secs(1_795_473_900);
        let template = Template::parse(OsStr::new(name)).expect(name);
        template
            .fill(Pid(4711), time)
            .to_string_lossy()
            .into_owned()
    }

    #[test]
    fn places_are_filled() {
        assert_eq!(fill("a.svg"), "a.svg");
        assert_eq!(fill("%p-%t.json"), "4711-20261123T224500Z.json");
        assert_eq!(fill("100%%/%%p/%p%p"), "100%/%p/47114711");
        assert_eq!(fill("/dir with space/ä"), "/dir with space/ä");
    }

    #[test]
    fn times_are_in_utc() {
        // As `date -u -d @N +%Y%m%dT%H%M%SZ` prints them.
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_210_096, "20240229T123456Z"),
            (1_735_689_599, "20241231T235959Z"),
            (1_795_473_900, "20261123T224500Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(compact_utc(time), text, "{seconds}");
        }
        assert_eq!(
            compact_utc(UNIX_EPOCH - Duration::from_secs(1)),
            "19691231T235959Z"
        );
    }

    #[test]
    fn other_places_are_refused() {
        for name in ["%", "a%", "%x", "%P", "%%%"] {
            assert!(Template::parse(OsStr::new(name)).is_err(), "{name}");
        }
    }
}
