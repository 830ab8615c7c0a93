//! `--accept FILE`: sites that are known and counted for nothing by `--fail-if`.
//!
//! ```toml
//! [[accept]]
//! function = "app::config::load"   # a part of the function's name; `*` stands for anything
//! cause = "file-io"                # optional
//! reason = "reads its file once at the start"
//! until = "2027-03-01"             # optional: from this day on it counts again
//! ```

use super::error::{Error, Result};
use crate::report::{Site, fits};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use std::path::Path;

/// Files may be so long; theirs are some lines.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accept: Vec<Entry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    function: String,
    cause: Option<String>,
    reason: String,
    /// In UTC.
    until: Option<String>,
    #[serde(skip)]
    used: bool,
}

/// What is accepted, and what of it was of use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accepted {
    entries: Vec<Entry>,
    /// Those whose day has come.
    expired: Vec<Entry>,
}

impl Accepted {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, or is not of this form.
    pub(crate) fn read(path: &Path) -> Result<Accepted> {
        let shown = path.display();
        let cannot = |error| Error::new(format!("cannot read {shown}")).because(error);
        let length = std::fs::metadata(path).map_err(cannot)?.len();
        if length > MAX_BYTES {
            return Err(Error::usage(format!(
                "{shown} is too long for a list of sites"
            )));
        }
        let text = std::fs::read_to_string(path).map_err(cannot)?;
        Accepted::parse(&text, TimeZone::UTC.to_datetime(Timestamp::now()).date()).map_err(|why| {
            Error::usage(format!("{shown} is no list of accepted sites: {why}"))
                .hint("[[accept]] with function = \"…\" and reason = \"…\", see the README")
        })
    }

    fn parse(text: &str, today: Date) -> std::result::Result<Accepted, String> {
        let file: File = toml::from_str(text).map_err(|error| in_a_line(&error, text))?;
        if file
            .accept
            .iter()
            .any(|entry| entry.reason.trim().is_empty())
        {
            return Err("an entry gives no reason".to_owned());
        }
        let mut accepted = Accepted::default();
        for entry in file.accept {
            let until = entry.until.as_deref().map(str::parse::<Date>).transpose();
            let until = until.map_err(|error| format!("until is no day: {error}"))?;
            if until.is_some_and(|until| until <= today) {
                accepted.expired.push(entry);
            } else {
                accepted.entries.push(entry);
            }
        }
        Ok(accepted)
    }

    /// One that accepts a function.
    #[cfg(test)]
    pub(super) fn of(function: &str) -> Accepted {
        let list = format!("[[accept]]\nfunction = {function:?}\nreason = \"known\"\n");
        Accepted::parse(&list, Date::MIN).expect("a list")
    }

    /// Whether a site is accepted.
    pub(crate) fn accepts(&mut self, site: &Site) -> bool {
        let mut accepts = false;
        for entry in &mut self.entries {
            let cause = entry.cause.as_deref();
            if cause.is_none_or(|cause| cause == site.cause.name())
                && fits(&entry.function, &site.function)
            {
                entry.used = true;
                accepts = true;
            }
        }
        accepts
    }

    /// What is to be said of entries that were of no use, or whose day has come.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let name = |entry: &Entry| match &entry.cause {
            Some(cause) => format!("{} ({cause})", entry.function),
            None => entry.function.clone(),
        };
        let expired = self.expired.iter().map(|entry| {
            let until = entry.until.as_deref().unwrap_or_default();
            format!(
                "{} was accepted until {until}: {}",
                name(entry),
                entry.reason
            )
        });
        let unused = self.entries.iter().filter(|entry| !entry.used);
        let unused = unused.map(|entry| {
            format!(
                "{} is accepted, and did not wait in this recording",
                name(entry)
            )
        });
        expired.chain(unused).collect()
    }
}

/// `line 3: invalid basic string`: the library's own text has the lines of the file in it.
fn in_a_line(error: &toml::de::Error, text: &str) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let message = error.message().replace('\n', ", ");
    match before {
        Some(before) => format!("line {}: {message}", before.split('\n').count()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_list_is_told_in_a_line() {
        let of = |text: &str| Accepted::parse(text, Date::MIN).expect_err("no list");
        let junk = of("# mine\n[[accept]]\njunk\n");
        assert!(junk.starts_with("line 3: "), "{junk}");
        let unknown = of("[[accept]]\nfunction = \"f\"\nreasn = \"r\"\n");
        assert!(unknown.contains("reasn"), "{unknown}");
        assert!(![junk, unknown].iter().any(|text| text.contains('\n')));
    }

    #[test]
    fn what_is_no_list_is_refused_and_what_has_expired_counts_again() {
        let today = jiff::civil::date(2026, 11, 29);
        let list = "[[accept]]\nfunction = \"a\"\nreason = \"r\"\nuntil = \"2026-11-29\"\n\
                    [[accept]]\nfunction = \"b\"\ncause = \"lock\"\nreason = \"r\"\nuntil = \"2026-11-30\"\n";
        let accepted = Accepted::parse(list, today).expect("a list");
        let remarks = accepted.remarks();
        assert_eq!(remarks.len(), 2);
        assert!(
            remarks[0].starts_with("a was accepted until 2026-11-29"),
            "{remarks:?}"
        );
        assert!(
            remarks[1].starts_with("b (lock) is accepted, and did not"),
            "{remarks:?}"
        );
        for wrong in [
            "x",
            "[[accept]]\nfunction = \"a\"\n",
            "[[accept]]\nfunction = \"a\"\nreason = \" \"\n",
            "[[accept]]\nfunction = \"a\"\nreason = \"r\"\nuntil = \"soon\"\n",
            "[[accept]]\nfunction = \"a\"\nreason = \"r\"\nwhy = \"r\"\n",
        ] {
            assert!(Accepted::parse(wrong, today).is_err(), "{wrong}");
        }
        assert!(
            Accepted::parse("", today)
                .expect("none")
                .remarks()
                .is_empty()
        );
    }
}
